"""The CustomResourceDefinitions `Model` and `Release`, made from `src/tidegate/spec.py`.

``python -m k8s.crds`` writes ``models.yaml`` and ``releases.yaml`` beside this file.
"""
