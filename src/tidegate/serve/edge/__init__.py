"""The runtime of an edge: the standard library, numpy and onnxruntime.

`tidegate.serve.edge_build` copies these modules, with the few others that they import (`RUNTIME` there), into every
edge folder; nothing here may import more of the platform.
"""
