import random

import numpy as np

from splitfl.data.examples import Examples, gather, split_held_out


def test_order_and_keys_do_not_depend_on_the_order_of_the_source() -> None:
    texts = [f"text number {i}" for i in range(200)]
    shuffled = random.Random(1).sample(texts, len(texts))
    one, other = (gather(order, None, [""] * 200) for order in (texts, shuffled))
    assert one.texts == other.texts
    assert np.array_equal(one.keys, other.keys)


def test_keys_are_stable_across_machines_and_versions() -> None:
    assert gather(["hello world"], None, [""]).keys.tolist() == [2907304015955608387]


def test_keys_are_unique_and_not_negative_even_for_copies(examples: Examples) -> None:
    copies = gather(["same"] * 50 + ["other"], None, [""] * 51)
    for some in (examples, copies):
        assert len(np.unique(some.keys)) == len(some)
        assert some.keys.dtype == np.int64
        assert (some.keys >= 0).all()
    assert gather(["same"], None, [""]).keys[0] in copies.keys


def test_labels_and_groups_follow_their_texts() -> None:
    some = gather([str(i) for i in range(100)], list(range(100)), [f"g{i}" for i in range(100)])
    assert some.labels is not None
    assert [int(text) for text in some.texts] == some.labels.tolist()
    assert [f"g{text}" for text in some.texts] == list(some.groups)


def test_the_split_covers_all_and_depends_on_nothing_but_the_text() -> None:
    texts = [f"text number {i}" for i in range(3000)]
    train, held_out = split_held_out(gather(texts, None, [""] * len(texts)))
    assert set(train.texts) | set(held_out.texts) == set(texts)
    assert not set(train.texts) & set(held_out.texts)
    assert 0.08 < len(held_out) / len(texts) < 0.12
    fewer = texts[::-3]
    train_of_fewer, held_out_of_fewer = split_held_out(gather(fewer, None, [""] * len(fewer)))
    assert set(train_of_fewer.texts) <= set(train.texts)
    assert set(held_out_of_fewer.texts) <= set(held_out.texts)


def test_copies_of_a_text_stay_on_one_side() -> None:
    texts = [f"text number {i}" for i in range(100)] * 3
    train, held_out = split_held_out(gather(texts, None, [""] * len(texts)))
    assert not set(train.texts) & set(held_out.texts)


def test_a_limit_takes_the_smallest_keys_and_zero_takes_all(examples: Examples) -> None:
    assert examples.first(10).keys.tolist() == sorted(examples.keys.tolist())[:10]
    assert examples.first(0) is examples
    assert len(examples.first(10_000)) == len(examples)
