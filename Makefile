# One vocabulary of tasks for people, hooks and CI. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
UV := $(VENV)/bin/uv
RUN := $(VENV)/bin
# steps are processes of their own: without their bytecode each would compile its imports again
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= $(shell bash .ci/find-python)

.PHONY: help setup demo test lint validate-data validate-model validate-definitions validate-tree report champion \
	image load-image push-image verify-images deploy train test-workflows cluster-up cluster-down cluster-test bench \
	soak judge-report diagnosis-report golden clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.synced  ## make .venv from the lock file

$(VENV)/.synced: uv.lock pyproject.toml
	@bash .ci/check-machine "$(PYTHON)"
	@test -x $(UV) || { "$(PYTHON)" -m venv $(VENV) && $(RUN)/python -m pip install --quiet uv==0.13.9; }
	@$(UV) sync --frozen --python $(RUN)/python
	@touch $@

demo: setup  ## the whole loop on real flights; writes demo/report.html
	@$(RUN)/python -m demo

test: setup  ## every test but the long ones
	@$(RUN)/python -m pytest -n 2 --dist loadfile $(foreach one,data model tree,--ignore=tests/$(one)) $(TESTS)

validate-data: setup  ## the tracked data version through the data gate
	@$(RUN)/python -m pytest tests/data

validate-model: setup  ## a short training through the model gate, beside the committed champion
	@$(RUN)/python -m pytest tests/model

report: setup  ## what this tree changes against commit BASE: data, features, metrics, latency, cost; build/report/
	@$(RUN)/python -m tests.model.report --base "$${BASE:-HEAD^}"

champion: setup  ## make this tree's model the one that validate-model compares with
	@$(RUN)/python -m tests.model.short_run

validate-definitions: setup  ## compiled pipelines, CRDs, overlays and Model files: valid, and as this tree makes them
	@$(RUN)/python -m pytest tests/golden tests/unit/k8s tests/unit/targets/test_renderers.py tests/definitions

validate-tree: setup  ## no secret and no pickle in what git tracks
	@$(RUN)/python -m pytest tests/tree

test-workflows: setup  ## the workflows run by act, green and red, and a push to the cluster; half an hour
	@$(RUN)/python -m pytest -m workflows tests/workflows tests/cluster

image: setup  ## one image (TARGET) as an OCI layout in build/, with its bill of materials; prints its digest
	@$(RUN)/python -m k8s.image build "$${TARGET:-components}" --out build $(if $(PULL),--pull --cache "$${CACHE:-}")

load-image: setup  ## the same image into the test cluster, beside what runs there
	@$(RUN)/python -m k8s.cluster images "$${TARGET:-components}" --tag "$${TAG:-built}"

push-image:  ## build/TARGET to REPOSITORY, by its digest; TOKEN may write there
	@printenv TOKEN | skopeo login --username "$${GITHUB_ACTOR:-token}" --password-stdin "$${REPOSITORY%%/*}"
	@skopeo copy --preserve-digests "oci:build/$$TARGET" "docker://$$REPOSITORY:sha-$$(git rev-parse HEAD)"

verify-images:  ## IMAGE and SERVING were built by this repository's own workflow
	@set -e; for image in "$$IMAGE" "$$SERVING"; do gh attestation verify "oci://$$image" --repo "$$GITHUB_REPOSITORY"; done

deploy: setup  ## tidegate deploy of OVERLAY with IMAGE and SERVING; DRY_RUN=1 shows what would change
	@.ci/with-cluster .ci/deploy

train: setup  ## one run of MODEL on the cluster, waited for
	@.ci/with-cluster .ci/train

lint: setup  ## style, docstrings, types, import contracts
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache

cluster-up: setup  ## a real cluster: kind where there is Docker, else built from source on Linux as root
	@$(RUN)/python -m k8s.cluster up

cluster-down: setup  ## end the cluster, leave nothing behind; PURGE=1 removes its state too
	@$(RUN)/python -m k8s.cluster down $(if $(PURGE),--purge)

cluster-test: setup  ## the cluster up, then every test that needs it; seconds of each phase
	@$(RUN)/python -m k8s.cluster test

bench: setup  ## budgets, as figures of one run
	@$(RUN)/python -m benchmarks

soak: setup  ## what takes longer than the tests may; output goes to docs/results/
	@$(RUN)/python -m benchmarks three_demos registry gate_rates serve_soak unattended feedback_bias rare_event images --write
	@$(RUN)/python -m pytest -m soak tests/unit tests/integration
	@HYPOTHESIS_PROFILE=explore $(RUN)/python -m pytest -n 2 --dist loadfile tests/unit tests/properties
	@HYPOTHESIS_PROFILE=explore DOCUMENT_EXAMPLES=300 $(RUN)/python -m pytest tests/integration/serve/test_document.py

judge-report: setup  ## error rates and speed of the judge; writes docs/results/judge.md
	@$(RUN)/python -m benchmarks judge_report --write

diagnosis-report: setup  ## names given to planted causes, false alarms, beside its peers; writes docs/results/diagnosis*.md
	@OMP_NUM_THREADS=1 $(RUN)/python -m benchmarks diagnosis_report diagnosis_peers diagnosis_streams --write

golden: setup  ## write the generated files again: compiled pipeline, renderers, definitions, reference
	@$(RUN)/python -m pipelines.continuous_training
	@$(RUN)/python -m pipelines.materialize
	@$(RUN)/python -m pipelines.batch_prediction
	@$(RUN)/python -m k8s.crds
	@TIDEGATE_GOLDEN=write $(RUN)/python -m pytest tests/golden tests/unit/targets/test_renderers.py

clean:  ## remove what the targets made, the environment too
	@rm -rf $(VENV) demo/state demo/report.html demo/report.json .tidegate
