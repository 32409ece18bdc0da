"""What is computed from stored embeddings: aesthetics and nearness to targets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from filters.given_models import Given
from filters.models.aesthetics import FIVE_LAYERS, AestheticsFilter
from filters.models.targets import TargetsFilter
from tests.filters.tiny_models import save_clip

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights" / "laion-aesthetic-v1"


def batch(rows: list[list[float] | None]) -> pa.RecordBatch:
    return pa.record_batch({"alignment.embedding": pa.array(rows, pa.list_(pa.float16()))})


def aesthetics(path: Path, rows: list[list[float] | None]) -> list[float | None]:
    found: list[float | None] = (
        AestheticsFilter.of(Given(aesthetics=str(path))).measure(batch(rows)).column(0).to_pylist()
    )
    return found


def near(path: Path, rows: list[list[float] | None]) -> list[bool | None]:
    found: list[bool | None] = (
        TargetsFilter.of(Given(targets=str(path))).measure(batch(rows)).column(0).to_pylist()
    )
    return found


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_one_layer_is_a_weighted_sum(tmp_path: Path, ending: str) -> None:
    state = {"weight": np.array([[1.0, 2.0, 4.0]], np.float32), "bias": np.array([5.0], np.float32)}
    path = tmp_path / f"head.{ending}"
    if ending == "pth":
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    else:
        save_file(state, path)
    assert aesthetics(path, [[1, 0, 0], None, [0, 0, 1], [0, 0.5, 0]]) == [6.0, None, 9.0, 7.0]
    assert aesthetics(path, [None]) == [None]
    assert aesthetics(path, []) == []


def test_five_layers_follow_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = (3, 8, 6, 5, 4, 1)
    linear = [
        (rng.normal(size=(sizes[place + 1], sizes[place])), rng.normal(size=sizes[place + 1]))
        for place in range(5)
    ]
    state: dict[str, NDArray[np.float32]] = {}
    value = np.array([0.6, 0.0, 0.8])
    for place, (weight, bias) in enumerate(linear):
        state[FIVE_LAYERS[2 * place]], state[FIVE_LAYERS[2 * place + 1]] = (
            weight.astype(np.float32),
            bias.astype(np.float32),
        )
        value = weight @ value + bias
    save_file(state, tmp_path / "head.safetensors")
    assert aesthetics(tmp_path / "head.safetensors", [[0.6, 0.0, 0.8]]) == [
        pytest.approx(value[0], rel=2e-3)
    ]


@pytest.mark.real
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/data/weights")
@pytest.mark.parametrize(
    ("head", "folder"),
    [
        ("sa_0_4_vit_b_32_linear", "vit_b_32_embeddings"),
        ("sa_0_4_vit_l_14_linear", "vit_l_14_embeddings"),
    ],
)
def test_laions_heads_rate_the_embeddings_of_their_ratings(head: str, folder: str) -> None:
    # one real embedding for each rating from 0 to 9
    rated = [np.load(WEIGHTS / folder / f"rating{rating}.npy")[0].tolist() for rating in range(10)]
    state = torch.load(WEIGHTS / f"{head}.pth", weights_only=True)
    direct = torch.nn.functional.linear(torch.tensor(rated), state["weight"], state["bias"]).ravel()
    assert aesthetics(WEIGHTS / f"{head}.pth", rated) == pytest.approx(direct.tolist(), abs=0.02)
    # they are means of many, which lie beyond what single pictures reach
    assert (direct - torch.arange(10)).abs().max() < 2.5
    assert (direct.diff() > 1).all()


def test_a_head_of_another_length_is_an_error(tmp_path: Path) -> None:
    save_file(
        {"weight": np.zeros((1, 768), np.float32), "bias": np.zeros(1, np.float32)},
        tmp_path / "head.safetensors",
    )
    message = (
        r"head\.safetensors is for embeddings of 768 numbers; those of the alignment model have "
    )
    with pytest.raises(ValueError, match=message + "3$"):
        aesthetics(tmp_path / "head.safetensors", [[1, 0, 0]])
    clip = save_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match=message + "24$"):
        AestheticsFilter.of(
            Given(alignment=str(clip), aesthetics=str(tmp_path / "head.safetensors"))
        )


def test_another_alignment_model_is_another_filter(tmp_path: Path) -> None:
    save_file(
        {"weight": np.zeros((1, 24), np.float32), "bias": np.zeros(1, np.float32)},
        tmp_path / "head.safetensors",
    )
    configs = []
    for seed in (0, 1):
        clip = save_clip(tmp_path / f"clip{seed}", seed=seed)
        configs.append(
            AestheticsFilter.of(
                Given(
                    alignment=str(clip), aesthetics=str(tmp_path / "head.safetensors"), device="cpu"
                )
            ).config
        )
    assert configs[0]["head"] == configs[1]["head"]
    assert configs[0]["embeddings"]["model"] != configs[1]["embeddings"]["model"]


def test_what_is_no_head_is_an_error(tmp_path: Path) -> None:
    save_file({"layers.0.weight": np.zeros((1, 3), np.float32)}, tmp_path / "head.safetensors")
    with pytest.raises(
        ValueError,
        match=r"holds layers\.0\.weight; known are LAION's heads of one layer and of five",
    ):
        aesthetics(tmp_path / "head.safetensors", [[1, 0, 0]])
    with pytest.raises(ValueError, match="there is no such file"):
        aesthetics(tmp_path / "nothing.pth", [])


def test_the_nearest_cluster_decides(tmp_path: Path) -> None:
    centroids = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    save_file(
        {"centroids": centroids, "keep": np.array([True, False, True])},
        tmp_path / "targets.safetensors",
    )
    rows: list[list[float] | None] = [[0.8, 0.6], [0.6, 0.8], None, [-1, 0], [0, -1]]
    # the last is as far from the first as from the third: the first of equals
    assert near(tmp_path / "targets.safetensors", rows) == [True, False, None, True, True]
    assert near(tmp_path / "targets.safetensors", [None]) == [None]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"centroids": np.zeros((3, 2), np.float32)}, r"it holds centroids \[3, 2\] float32"),
        (
            {"centroids": np.zeros((3, 2), np.float32), "keep": np.zeros(2, np.bool_)},
            r"keep \[2\] bool",
        ),
        (
            {"centroids": np.zeros((3, 2), np.float32), "keep": np.zeros(3, np.uint8)},
            r"keep \[3\] uint8",
        ),
    ],
)
def test_targets_of_another_shape_are_an_error(
    tmp_path: Path, stored: dict[str, NDArray[np.generic]], message: str
) -> None:
    save_file(stored, tmp_path / "targets.safetensors")
    with pytest.raises(ValueError, match=message):
        near(tmp_path / "targets.safetensors", [[1, 0]])


def test_targets_of_another_length_are_an_error(tmp_path: Path) -> None:
    save_file(
        {"centroids": np.zeros((3, 2), np.float32), "keep": np.zeros(3, np.bool_)},
        tmp_path / "targets.safetensors",
    )
    with pytest.raises(
        ValueError, match=r"has centroids of 2 numbers; embeddings of the alignment model have 3"
    ):
        near(tmp_path / "targets.safetensors", [[1, 0, 0]])
    (tmp_path / "targets.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"is no \.safetensors file"):
        TargetsFilter.of(Given(targets=str(tmp_path / "targets.safetensors"))).measure(
            batch([[1, 0, 0]])
        )
