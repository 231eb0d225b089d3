"""Run by ``outside`` as a program of its own: models in the libraries that other people load them with, and
nothing of goodnet. It says, for each batch of images, the class that each model gives.

First line of standard input: JSON, ``{"models": {kind: path}, "channels_last": [kinds]}``. Then for each
batch a line ``{"shape": [n, C, H, W]}`` and the pixels, float32. Each is answered by a line of JSON.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def in_torch(path: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    net = torch.export.load(path).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(net(torch.from_numpy(images)))

    return run


def in_onnx_runtime(path: str, channels_last: bool) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(given.type, np.float32)
    frozen = given.shape[0] if isinstance(given.shape[0], int) else None

    def run(images: np.ndarray) -> np.ndarray:
        pixels = images.transpose(0, 2, 3, 1) if channels_last else images
        pixels = np.ascontiguousarray(pixels.astype(kind))
        if frozen is None:
            return np.asarray(session.run(None, {given.name: pixels})[0])
        found = []
        for start in range(0, len(pixels), frozen):
            part = pixels[start : start + frozen]
            full = np.concatenate([part, np.repeat(part[:1], frozen - len(part), axis=0)])
            found.append(np.asarray(session.run(None, {given.name: full})[0])[: len(part)])
        return np.concatenate(found)

    return run


def main() -> None:
    source, answers = sys.stdin.buffer, sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    asked = json.loads(source.readline())
    nets: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    kind = ""
    try:
        for kind, path in asked["models"].items():
            onnx = path.endswith(".onnx")
            nets[kind] = in_onnx_runtime(path, kind in asked["channels_last"]) if onnx else in_torch(path)
        say({})
        while line := source.readline():
            shape = json.loads(line)["shape"]
            images = np.frombuffer(bytearray(source.read(4 * int(np.prod(shape)))), np.float32).reshape(shape)
            said = {}
            for kind, run in nets.items():
                said[kind] = run(images).reshape(len(images), -1).argmax(axis=1).tolist()
            say(said)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        say({"error": f"{type(error).__name__}: {lines[0][:200]}", "kind": kind})


if __name__ == "__main__":
    main()
