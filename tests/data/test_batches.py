import numpy as np
import pytest

from lrc_lib.data.batches import Encoded, collate, epoch_order, steps_per_epoch

LENGTHS = np.random.default_rng(0).integers(3, 60, 203)


@pytest.mark.parametrize("bucket", [0, 1, 4])
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone(bucket):
    order = epoch_order(LENGTHS, 3, 1, 16, bucket)
    assert sorted(order) == list(range(203))
    assert np.array_equal(order, epoch_order(LENGTHS, 3, 1, 16, bucket))
    for other in ((4, 1), (3, 2)):
        assert not np.array_equal(order, epoch_order(LENGTHS, *other, 16, bucket))


def test_buckets_bring_rows_of_like_length_together():
    def padded(bucket):
        order = epoch_order(LENGTHS, 0, 0, 16, bucket)[:192].reshape(-1, 16)
        return LENGTHS[order].max(1).sum() * 16

    assert padded(12) < 0.75 * padded(0)


@pytest.mark.parametrize("rows, drop, expected", [(33, True, 2), (33, False, 2), (34, False, 3)])
def test_a_last_batch_of_one_row_has_no_negative_and_is_dropped(rows, drop, expected):
    assert steps_per_epoch(rows, 16, drop) == expected


def test_a_batch_is_padded_to_its_own_longest_row():
    ids = np.array([2, 7, 3, 2, 3, 2, 8, 9, 3], dtype=np.int32)
    types = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1], dtype=np.int32)
    rows = Encoded(ids, types, np.array([0, 3, 5, 9]), np.array([1, 0, 1]), pad_id=5)
    batch = {name: tensor.tolist() for name, tensor in collate(rows, [1, 0]).items()}
    assert batch == {
        "input_ids": [[2, 3, 5], [2, 7, 3]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
        "token_type_ids": [[0, 1, 0], [0, 1, 1]],
        "labels": [0, 1],
    }
    assert collate(rows, range(3))["input_ids"].shape == (3, 4)


def test_ids_of_16_bits_are_without_a_sign():
    ids = np.array([101, 40_000, 65_535, 7, 32_768], dtype=np.uint16)
    rows = Encoded(ids, None, np.array([0, 3, 5]), np.array([0, 1]), pad_id=65_534)
    wanted = [[101, 40_000, 65_535], [7, 32_768, 65_534]]
    assert collate(rows, [0, 1])["input_ids"].tolist() == wanted
