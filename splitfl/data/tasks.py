"""Tasks by name: those of splitfl, and those that other packages register."""

from typing import Final

from splitfl.core.registry import Registry
from splitfl.data.reading import sources
from splitfl.data.reading.forms import (
    ANSWERED,
    LABELLED,
    PICTURED,
    PLAIN,
    PROMPTED,
    SCORED,
    SEVERAL_LABELS,
    TAGGED,
)
from splitfl.data.reading.picture_files import load_picture_evaluation, load_picture_folder
from splitfl.data.reading.text_corpus import own_texts, stdlib_source
from splitfl.data.task_spec import ANSWER_MODEL, CLASSIFICATION, IMAGES, LANGUAGE_MODEL, TOKENS, TaskSpec

_STDLIB: Final = "the standard library of this Python"

TASKS: Final = Registry(
    "splitfl.tasks",
    TaskSpec,
    {
        "stdlib-topics": TaskSpec(
            about="which of eleven areas a docstring of Python's standard library is from (needs no data)",
            kind=CLASSIFICATION,
            corpus=sources.topics,
            source=_STDLIB,
            citation=sources.PYTHON,
        ),
        "stdlib-lm": TaskSpec(
            about="language modelling of the same docstrings (needs no data)",
            kind=LANGUAGE_MODEL,
            corpus=sources.docstrings,
            packing="pack",
            source=_STDLIB,
            citation=sources.PYTHON,
        ),
        "stdlib-source": TaskSpec(
            about="language modelling of the source of Python's standard library, 12 MB (needs no data)",
            kind=LANGUAGE_MODEL,
            texts=stdlib_source,
            packing="pack",
            source=_STDLIB,
            citation=sources.PYTHON,
        ),
        "classification": TaskSpec(
            about="texts with labels of your own: a file, a folder or hf:NAME in task.data",
            kind=CLASSIFICATION,
            form=LABELLED,
        ),
        "regression": TaskSpec(
            about="texts, or pairs of texts, with a number each of your own, such as a similarity",
            kind=CLASSIFICATION,
            form=SCORED,
        ),
        "multi-label": TaskSpec(
            about="texts with any number of classes each of your own",
            kind=CLASSIFICATION,
            form=SEVERAL_LABELS,
        ),
        "token-classification": TaskSpec(
            about="words of sentences with a class each of your own, such as names of persons and places",
            kind=TOKENS,
            form=TAGGED,
        ),
        "lm": TaskSpec(
            about="language modelling of texts of your own: a file, a folder or hf:NAME in task.data",
            kind=LANGUAGE_MODEL,
            form=PLAIN,
            packing="pack",
        ),
        "corpus": TaskSpec(
            about="language modelling of texts of your own of any size: a text file, a folder or hf:NAME",
            kind=LANGUAGE_MODEL,
            form=PLAIN,
            texts=own_texts,
            packing="pack",
        ),
        "sft": TaskSpec(
            about="answers to prompts and in chats of your own: a file, a folder or hf:NAME in task.data",
            kind=LANGUAGE_MODEL,
            form=ANSWERED,
        ),
        "seq2seq": TaskSpec(
            about="answers of an encoder-decoder to prompts of your own: a file, a folder or hf:NAME",
            kind=ANSWER_MODEL,
            form=PROMPTED,
        ),
        "sst2": TaskSpec(
            about="the sentiment of film reviews; a folder with train.tsv and dev.tsv in task.data",
            kind=CLASSIFICATION,
            form=LABELLED,
            citation=sources.SST,
        ),
        "e2e": TaskSpec(
            about="to say in a text what a line of properties says; a folder with train.txt and test.txt",
            kind=LANGUAGE_MODEL,
            corpus=sources.e2e,
            citation=sources.E2E,
        ),
        "image-folder": TaskSpec(
            about="pictures of your own in folders named after their classes, in a folder in task.data",
            kind=IMAGES,
            form=PICTURED,
            corpus=load_picture_folder,
            evaluation=load_picture_evaluation,
        ),
        "mnist": TaskSpec(
            about="which digit a picture shows; a folder with mnist.npz, as Keras has it, in task.data",
            kind=IMAGES,
            corpus=sources.mnist,
            citation=sources.MNIST,
        ),
    },
)
