"""keep = "best": the result is the best epoch of stage 2 by its dev score; training is the same."""

import numpy as np
import pytest

from lrc_lib import run, training
from lrc_lib.evaluate import compute_metrics


@pytest.fixture
def spec(tiny_spec):
    return tiny_spec.replace(recipe="finetune", epochs=10, stage_boundary=0.25, learning_rate=3e-3)


def test_the_best_epoch_of_stage_2_is_kept_and_training_is_the_same(spec, out):
    last = run(spec, out, "cpu")
    best = run(spec.replace(keep="best"), out, "cpu")
    assert best.id != last.id
    np.testing.assert_array_equal(best.history["loss"], last.history["loss"])
    dev = best.history["dev"].dropna()
    ends = [step for step in range(9, 100, 10) if step + 1 > 25]  # of epochs, past the boundary
    assert list(best.history.loc[dev.index, "step"]) == ends
    assert best.score() == pytest.approx(dev.max())
    kept = int(best.history.loc[dev.idxmax(), "step"]) + 1  # idxmax: the first of equal ones
    assert best.metrics["kept_step"] == kept < 100
    assert not np.allclose(best.predictions()["logits"], last.predictions()["logits"])
    assert dev.iloc[-1] == pytest.approx(last.score())  # with the words that no batch had, too
    assert last.history["dev"].isna().all() and "kept_step" not in last.metrics
    assert not list(best.path.glob("best*"))


def test_the_saved_student_is_the_kept_one(spec, out, tiny_data):
    from lrc_lib.data import load_task_data
    from lrc_lib.data.batches import encode
    from lrc_lib.evaluate import predict

    best = run(spec.replace(keep="best"), out, "cpu")
    data = load_task_data(spec.task, spec.data)
    encoded = encode(data.dev["dev"], best.tokenizer(), data.task.max_length)
    logits = predict(best.student(), encoded)
    assert compute_metrics(data.task, logits, encoded.labels)["accuracy"] == best.score()


def test_an_interrupted_run_goes_on_to_the_same_result(spec, out, tmp_path, monkeypatch):
    wanted = run(spec.replace(keep="best"), out, "cpu")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    real, calls = training.step_losses, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 87:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "step_losses", dies)
    with pytest.raises(KeyboardInterrupt):
        run(spec.replace(keep="best"), tmp_path, "cpu")
    assert list((tmp_path / "runs").glob("*.partial/best.pt"))
    monkeypatch.setattr(training, "step_losses", real)
    again = run(spec.replace(keep="best"), tmp_path, "cpu")
    assert again.metrics["kept_step"] == wanted.metrics["kept_step"]
    for name in ("loss", "dev"):
        np.testing.assert_array_equal(again.history[name], wanted.history[name])
    np.testing.assert_array_equal(again.predictions()["logits"], wanted.predictions()["logits"])


def test_a_kept_state_of_an_earlier_start_is_not_taken_over(spec, out, tmp_path):
    wanted = run(spec.replace(keep="best"), out, "cpu")
    partial = tmp_path / "runs" / f"{wanted.id}.partial"
    partial.mkdir(parents=True)
    (partial / "best.pt").write_text("of an earlier start")
    again = run(spec.replace(keep="best"), tmp_path, "cpu")
    assert again.metrics["kept_step"] == wanted.metrics["kept_step"]
    np.testing.assert_array_equal(again.predictions()["logits"], wanted.predictions()["logits"])


def test_what_is_kept_is_part_of_the_id(spec):
    assert spec.keep == "last" and spec.run_id() != spec.replace(keep="best").run_id()
