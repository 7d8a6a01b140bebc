# Two commands on a fresh machine: `make demo` and `make test`. Everything else is for developers.
# Variables of a command pass through the environment: ONCE=1, KUBE=, NODE=, N=, SEED=, ONLY=, SUITES="unit area".

PYTHON ?= python3
# exec: make's own child is then the program itself, which ends when make is killed.
RUN = @exec $(PYTHON) -m devstack.bootstrap --bound

.PHONY: demo test check clean torture bench simulate year mutants hostile long screenshots podtools chart messages

demo:
	$(RUN) -m devstack.demo

test:
	$(RUN) -m devstack.testrun

check:
	$(RUN) -m devstack.check

clean:
	@exec $(PYTHON) -m devstack.clean

screenshots:
	$(RUN) -m devstack.screenshots

podtools:
	$(RUN) -m devstack.podtools dist

chart:
	$(RUN) -m devstack.chart dist

messages:
	$(RUN) -m devstack.messages

torture bench simulate year mutants hostile long:
	$(RUN) -m devstack.campaign $@
