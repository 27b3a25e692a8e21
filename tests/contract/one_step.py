"""Source of one_step.yaml, the package of the orchestrators' contract: ``python tests/contract/one_step.py``."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="python:3.11", packages_to_install=[], install_kfp_package=False)
def write(path: str, word: str, state: str, run: str):
    """Write `word` to the file `path`; fail where it is ``fail``, wait where it is ``wait``."""
    import time
    from pathlib import Path

    from tidegate.errors import UserError

    if word == "fail":
        raise UserError("word", word, "another word")
    Path(path).write_text(f"{word} {run}\n")
    while word == "wait" and not Path(path + ".go").exists():
        time.sleep(0.01)
    if word == "odd":
        print("Condition evaluation failed: skipped")


@dsl.pipeline(name="one-step")
def one_step(path: str, word: str, state: str = "", run: str = ""):
    """One step."""
    write(path=path, word=word, state=state, run=run).set_caching_options(False)


if __name__ == "__main__":
    compiler.Compiler().compile(one_step, str(Path(__file__).with_suffix(".yaml")))
