"""The author's procedure in Keras on TensorFlow, timed on a few candidates. Stands alone, since
TensorFlow wants other versions than goodnet: run by an interpreter that has it, with the weights,
an .npz of images and a number of candidates; prints seconds a candidate as JSON."""

import json
import sys
import time

import h5py
import keras
import numpy as np
from keras import layers


def deepid(classes: int) -> keras.Model:
    image = keras.Input((55, 47, 3), name="input")
    x = image
    for name, filters, size in (("conv_1", 20, 4), ("conv_2", 40, 3), ("conv_3", 60, 3)):
        x = layers.Conv2D(filters, size, activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2)(x)
    deep = layers.Conv2D(80, 2, activation="relu", name="conv_4")(x)
    wide = layers.Dense(160, name="fc_1")(layers.Flatten()(x))
    deep = layers.Dense(160, name="fc_2")(layers.Flatten()(deep))
    x = layers.Activation("relu")(layers.Add()([wide, deep]))
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="output")(x))


def load(path: str, classes: int) -> keras.Model:
    net = deepid(classes)
    with h5py.File(path) as file:
        for layer in net.layers:
            if layer.name in file and len(file[layer.name]):
                held = file[layer.name][layer.name]
                layer.set_weights([held["kernel:0"][()], held["bias:0"][()]])
    return net


def main(weights: str, images: str, candidates: int) -> None:
    data = np.load(images)
    clean, poisoned = (data[kind].transpose(0, 2, 3, 1).astype(np.float32) for kind in ("clean", "poisoned"))
    classes = 1283
    badnet = load(weights, classes)
    badnet.predict(clean[:64], verbose=0)
    seconds = []
    for index in range(candidates):
        started = time.perf_counter()
        trial = keras.models.clone_model(badnet)
        trial.set_weights(badnet.get_weights())
        kernel, bias = trial.get_layer("conv_3").get_weights()
        kernel[..., index] = 0
        trial.get_layer("conv_3").set_weights([kernel, bias])
        (trial.predict(clean, verbose=0).argmax(axis=1) == data["labels"]).mean()
        said = trial.predict(poisoned, verbose=0).argmax(axis=1)
        (said == badnet.predict(poisoned, verbose=0).argmax(axis=1)).mean()
        seconds.append(time.perf_counter() - started)
    right = float((badnet.predict(clean[:500], verbose=0).argmax(axis=1) == data["labels"][:500]).mean())
    print(json.dumps({"seconds": seconds, "right_of_500": right}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
