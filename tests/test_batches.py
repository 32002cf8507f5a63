import numpy as np
import pytest

from lrc_lib.data.batches import epoch_order, steps_per_epoch

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
