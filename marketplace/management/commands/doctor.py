"""Look at everything: ``manage.py doctor``. Status 0: well, 1: warnings, 2: something fails."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from marketplace.oncall.doctor import STATUS, Finding, examine, worst


class Command(BaseCommand):
    help = "Check what the platform stands on, its set-up, its vital signs. Status 0, 1 or 2."
    # The doctor says itself what is wrong with the set-up; a refusal to start would hide the rest.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in findings]))
        else:
            for finding in findings:
                self.stdout.write(line(finding))
        status = STATUS[worst(findings)]
        if status:
            raise SystemExit(status)


def line(finding: Finding) -> str:
    """One finding for people."""
    head = f"{finding.verdict:<4} {finding.check}: {finding.measured}"
    if not finding.do:
        return head
    return f"{head}; threshold {finding.threshold}. {finding.do}. See {finding.runbook}"
