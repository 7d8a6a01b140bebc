import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.text
import kernel.clock
import kernel.ids
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('kernel', '0001_app_now'),
        ('provisioner', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditSeal',
            fields=[
                ('seq', models.BigIntegerField(primary_key=True, serialize=False)),
                ('prev_hash', models.BinaryField(max_length=32)),
                ('hash', models.BinaryField(max_length=32)),
                ('sealed_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='DataCenter',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=60)),
                ('region', models.CharField(max_length=40)),
                ('country', models.CharField(max_length=2)),
            ],
        ),
        migrations.CreateModel(
            name='EmailToken',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('purpose', models.CharField(choices=[('verify', 'Verify'), ('reset', 'Reset'), ('known', 'Known')], max_length=10)),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(blank=True, null=True)),
                ('send_after', models.DateTimeField(db_default=kernel.clock.AppNow())),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('organization_ref', models.UUIDField()),
                ('key', models.CharField(max_length=255)),
                ('request_hash', models.BinaryField(max_length=32)),
                ('status', models.PositiveSmallIntegerField(default=0)),
                ('answer', models.BinaryField(default=b'')),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('role', models.CharField(choices=[('owner', 'Owner'), ('member', 'Member'), ('billing', 'Billing'), ('viewer', 'Viewer')], max_length=10)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='Offer',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('active', 'Active'), ('paused', 'Paused'), ('ended', 'Ended')], default='draft', max_length=10)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('price_micro_h', models.BigIntegerField(default=0)),
                ('min_gpus', models.PositiveIntegerField(default=1)),
                ('ownership', models.CharField(choices=[('owned', 'Owned'), ('partner', 'Partner')], max_length=10)),
                ('region', models.CharField(max_length=40)),
                ('country', models.CharField(max_length=2)),
                ('tier', models.CharField(default='standard', max_length=20)),
                ('isolation', models.CharField(default='container', max_length=20)),
                ('ends_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Organization',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=120)),
                ('state', models.CharField(choices=[('active', 'Active'), ('frozen', 'Frozen')], default='active', max_length=10)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('spend_limit_micro_h', models.BigIntegerField(default=200000000)),
                ('quota_gpus', models.PositiveIntegerField(default=64)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='PriceVersion',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('price_micro_h', models.BigIntegerField()),
                ('from_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('actor', models.CharField(max_length=80)),
            ],
        ),
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=80)),
            ],
        ),
        migrations.CreateModel(
            name='Provider',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('state', models.CharField(choices=[('applied', 'Applied'), ('approved', 'Approved'), ('suspended', 'Suspended')], default='applied', max_length=10)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('ownership', models.CharField(choices=[('owned', 'Owned'), ('partner', 'Partner')], default='partner', max_length=10)),
                ('contact_email', models.EmailField(max_length=254)),
                ('description', models.CharField(blank=True, max_length=500)),
                ('fee_bps', models.PositiveIntegerField(blank=True, null=True)),
                ('allowed_networks', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=43), blank=True, default=list, size=None)),
                ('allowed_ports', django.contrib.postgres.fields.ArrayField(base_field=models.PositiveIntegerField(), blank=True, default=list, size=None)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Quote',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('gpus', models.PositiveIntegerField()),
                ('disk_gib', models.PositiveIntegerField()),
                ('price_micro_h', models.BigIntegerField()),
                ('provider_micro_h', models.BigIntegerField()),
                ('components', models.JSONField()),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Rental',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=80)),
                ('labels', models.JSONField(blank=True, default=dict)),
                ('image', models.CharField(max_length=400)),
                ('accelerator', models.CharField(max_length=60)),
                ('gpus', models.PositiveIntegerField()),
                ('disk_gib', models.PositiveIntegerField()),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('price_micro_h', models.BigIntegerField()),
                ('provider_micro_h', models.BigIntegerField()),
                ('ssh_keys', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), blank=True, default=list, size=None)),
                ('ssh', models.BooleanField(default=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('instance_ref', models.UUIDField(null=True)),
                ('desired_state', models.CharField(choices=[('running', 'Running'), ('stopped', 'Stopped'), ('terminated', 'Terminated')], max_length=10)),
                ('state', models.CharField(choices=[('requested', 'Requested'), ('queued', 'Queued'), ('provisioning', 'Provisioning'), ('pulling', 'Pulling'), ('starting', 'Starting'), ('running', 'Running'), ('degraded', 'Degraded'), ('unreachable', 'Unreachable'), ('interrupting', 'Interrupting'), ('stopping', 'Stopping'), ('stopped', 'Stopped'), ('migrating', 'Migrating'), ('failed', 'Failed'), ('terminating', 'Terminating'), ('terminated', 'Terminated')], max_length=12)),
                ('reason', models.CharField(max_length=40)),
                ('state_since', models.DateTimeField(db_default=kernel.clock.AppNow())),
                ('ready_at', models.DateTimeField(blank=True, null=True)),
                ('stop_ack_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('idempotency_key', models.CharField(blank=True, max_length=255)),
            ],
        ),
        migrations.CreateModel(
            name='RentalEvent',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('seq', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('state', models.CharField(choices=[('requested', 'Requested'), ('queued', 'Queued'), ('provisioning', 'Provisioning'), ('pulling', 'Pulling'), ('starting', 'Starting'), ('running', 'Running'), ('degraded', 'Degraded'), ('unreachable', 'Unreachable'), ('interrupting', 'Interrupting'), ('stopping', 'Stopping'), ('stopped', 'Stopped'), ('migrating', 'Migrating'), ('failed', 'Failed'), ('terminating', 'Terminating'), ('terminated', 'Terminated')], max_length=12)),
                ('reason', models.CharField(max_length=40)),
                ('actor', models.CharField(max_length=10)),
                ('text', models.CharField(max_length=500)),
                ('evidence', models.JSONField(default=dict)),
            ],
        ),
        migrations.CreateModel(
            name='SshKey',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=80)),
                ('public_key', models.TextField(max_length=8192)),
                ('fingerprint', models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name='Template',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('slug', models.SlugField(max_length=60)),
                ('name', models.CharField(max_length=80)),
                ('description', models.CharField(blank=True, max_length=500)),
                ('image', models.CharField(max_length=400)),
                ('command', models.JSONField(blank=True, default=list)),
                ('env', models.JSONField(blank=True, default=dict)),
                ('ports', models.JSONField(blank=True, default=list)),
                ('needs', models.JSONField(blank=True, default=dict)),
                ('active', models.BooleanField(default=True)),
            ],
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('email', models.EmailField(max_length=254)),
                ('name', models.CharField(blank=True, max_length=120)),
                ('email_verified_at', models.DateTimeField(blank=True, null=True)),
                ('terms_version', models.CharField(blank=True, max_length=20)),
                ('terms_accepted_at', models.DateTimeField(blank=True, null=True)),
                ('is_active', models.BooleanField(default=True)),
                ('is_staff', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('name', models.CharField(max_length=80)),
                ('secret_hash', models.BinaryField(max_length=32)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=30), size=None)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, null=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.UUIDField(default=kernel.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('organization_ref', models.UUIDField(null=True)),
                ('actor', models.CharField(max_length=80)),
                ('on_behalf', models.CharField(blank=True, max_length=80)),
                ('action', models.CharField(max_length=60)),
                ('object', models.CharField(max_length=80)),
                ('details', models.JSONField(default=dict)),
                ('ts', models.DateTimeField(db_default=kernel.clock.AppNow(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['organization_ref', '-id'], name='audit_by_organization')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='auditentry',
            trigger=pgtrigger.compiler.Trigger(name='append_only', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='fa4c7fcfeb40db243d4174eb5d34e95b0f3d72a7', operation='UPDATE OR DELETE', pgid='pgtrigger_append_only_fdd3a', table='marketplace_auditentry', when='BEFORE')),
        ),
        migrations.AddField(
            model_name='auditseal',
            name='entry',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='seal', to='marketplace.auditentry'),
        ),
        migrations.AddField(
            model_name='emailtoken',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='email_tokens', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='idempotencykey',
            index=models.Index(fields=['created_at'], name='idempotency_age'),
        ),
        migrations.AddConstraint(
            model_name='idempotencykey',
            constraint=models.UniqueConstraint(fields=('organization_ref', 'key'), name='idempotency_key_once'),
        ),
        migrations.AddField(
            model_name='membership',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='offer',
            name='datacenter',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='offers', to='marketplace.datacenter'),
        ),
        migrations.AddField(
            model_name='offer',
            name='group',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='provisioner.devicegroup'),
        ),
        migrations.AddField(
            model_name='membership',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='organization',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='priceversion',
            name='offer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='prices', to='marketplace.offer'),
        ),
        migrations.AddField(
            model_name='project',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='projects', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='provider',
            name='organization',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='provider', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='offer',
            name='provider',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='offers', to='marketplace.provider'),
        ),
        migrations.AddField(
            model_name='datacenter',
            name='provider',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='datacenters', to='marketplace.provider'),
        ),
        migrations.AddField(
            model_name='quote',
            name='offer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.offer'),
        ),
        migrations.AddField(
            model_name='quote',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='quotes', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='quote',
            name='price',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.priceversion'),
        ),
        migrations.AddField(
            model_name='rental',
            name='created_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='rental',
            name='offer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rentals', to='marketplace.offer'),
        ),
        migrations.AddField(
            model_name='rental',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rentals', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='rental',
            name='project',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rentals', to='marketplace.project'),
        ),
        migrations.AddField(
            model_name='rental',
            name='quote',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rental', to='marketplace.quote'),
        ),
        migrations.AddField(
            model_name='rentalevent',
            name='rental',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='events', to='marketplace.rental'),
        ),
        migrations.AddField(
            model_name='sshkey',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='ssh_keys', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='template',
            name='organization',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='templates', to='marketplace.organization'),
        ),
        migrations.AddField(
            model_name='rental',
            name='template',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.template'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower('email'), name='user_email_once'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(fields=('email',), name='user_email_exact_once'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='auditseal',
            trigger=pgtrigger.compiler.Trigger(name='append_only', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='6def3d0e2d210eccdf3997219d8ba231bb4695e0', operation='UPDATE OR DELETE', pgid='pgtrigger_append_only_7dd6f', table='marketplace_auditseal', when='BEFORE')),
        ),
        migrations.AddIndex(
            model_name='emailtoken',
            index=models.Index(condition=models.Q(('sent_at__isnull', True)), fields=['send_after'], name='email_unsent'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(fields=('organization', 'user'), name='membership_once'),
        ),
        migrations.AddConstraint(
            model_name='priceversion',
            constraint=models.UniqueConstraint(fields=('offer', 'number'), name='price_version_once'),
        ),
        migrations.AddConstraint(
            model_name='project',
            constraint=models.UniqueConstraint(fields=('organization', 'name'), name='project_name_once'),
        ),
        migrations.AddIndex(
            model_name='offer',
            index=models.Index(condition=models.Q(('state', 'active')), fields=['price_micro_h', 'id'], name='offer_by_price'),
        ),
        migrations.AddConstraint(
            model_name='offer',
            constraint=models.CheckConstraint(condition=models.Q(('price_micro_h__gt', 0), models.Q(('state', 'active'), _negated=True), _connector='OR'), name='active_offer_has_price'),
        ),
        migrations.AddConstraint(
            model_name='datacenter',
            constraint=models.UniqueConstraint(fields=('provider', 'name'), name='datacenter_name_once'),
        ),
        migrations.AddConstraint(
            model_name='rentalevent',
            constraint=models.UniqueConstraint(fields=('rental', 'seq'), name='rental_event_once'),
        ),
        migrations.AddConstraint(
            model_name='sshkey',
            constraint=models.UniqueConstraint(fields=('organization', 'fingerprint'), name='ssh_key_once_per_organization'),
        ),
        migrations.AddConstraint(
            model_name='template',
            constraint=models.UniqueConstraint(fields=('organization', 'slug'), name='template_slug_once', nulls_distinct=False),
        ),
        migrations.AddIndex(
            model_name='rental',
            index=models.Index(fields=['organization', '-id'], name='rental_by_organization'),
        ),
        migrations.AddIndex(
            model_name='rental',
            index=models.Index(condition=models.Q(('ended_at__isnull', True), ('expires_at__isnull', False)), fields=['expires_at'], name='rental_by_end'),
        ),
        migrations.AddIndex(
            model_name='rental',
            index=django.contrib.postgres.indexes.GinIndex(fields=['labels'], name='rental_by_label'),
        ),
        migrations.AddConstraint(
            model_name='rental',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['requested', 'queued', 'provisioning', 'pulling', 'starting', 'running', 'degraded', 'unreachable', 'interrupting', 'stopping', 'stopped', 'migrating', 'failed', 'terminating', 'terminated'])), name='rental_state_known'),
        ),
        migrations.AddConstraint(
            model_name='rental',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at__isnull', False), models.Q(('state', 'terminated'), _negated=True), _connector='OR'), name='terminated_rental_has_end'),
        ),
    ]
