"""Write the definitions beside this file."""

from pathlib import Path

from k8s.crds.definitions import definitions, text

if __name__ == "__main__":
    for name, definition in definitions().items():
        Path(__file__).with_name(name).write_text(text(definition), encoding="utf-8")
