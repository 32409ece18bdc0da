"""Classifiers of images and of texts, by local folder or hub name: probabilities of their
labels.
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from filters.base import Each, here
from filters.models.loading import (
    FLOATS,
    Place,
    digest_of_folder,
    each_image,
    each_text,
    folder_of,
    longest_text,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A classifier of transformers: its folder, what identifies its bytes, its labels, and whether
    several of them can be true.
    """

    folder: str
    digest: str
    labels: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, name: str, option: str) -> "Classifier":
        """A local folder or a hub name; ValueError where there is no such model."""
        from transformers import AutoConfig

        folder = folder_of(name, option)
        digest = digest_of_folder(folder, option)
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--{option} {name}: its configuration cannot be read ({error})"
            ) from error
        labels = tuple(str(config.id2label[number]) for number in range(len(config.id2label)))
        # one output alone is a probability of its own
        several = config.problem_type == "multi_label_classification" or len(labels) == 1
        return cls(folder=str(folder), digest=digest, labels=labels, several=several)

    def of_logits(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Probabilities [rows, labels]: each for itself, or one of all."""
        wide = logits.float()
        return wide.sigmoid() if self.several else wide.softmax(-1)

    def of_images(
        self, images: pa.Array, place: Place, each: Each = here
    ) -> tuple[NDArray[np.int64], FLOATS]:
        """The rows that can be decoded [n], and probabilities of the labels [n, labels]."""
        model, processor = _image_model(self, place.device)

        def prepare(picture: Image.Image) -> "torch.Tensor":
            prepared: torch.Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][
                0
            ]
            return prepared

        return each_image(
            images,
            prepare,
            lambda pictures: self.of_logits(model(pixel_values=pictures).logits),
            place,
            each,
        )

    def of_texts(self, texts: list[str], place: Place) -> FLOATS:
        """Probabilities of the labels [texts, labels]; what is beyond the model's longest text is
        not read.
        """
        model, tokenizer, longest = _text_model(self, place.device)
        coded = tokenizer(texts, truncation=True, max_length=longest)["input_ids"] if texts else []
        values = np.zeros((len(texts), len(self.labels)), np.float32)

        def probabilities(ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
            return self.of_logits(model(input_ids=ids, attention_mask=mask).logits)

        for rows, found in each_text(
            coded, tokenizer.pad_token_id or 0, longest, probabilities, place
        ):
            values[rows] = found
        return values


@functools.cache
def _image_model(classifier: Classifier, device: str) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = (
        AutoModelForImageClassification.from_pretrained(classifier.folder, local_files_only=True)
        .float()
        .eval()
        .to(device)
    )
    return model, AutoImageProcessor.from_pretrained(classifier.folder, local_files_only=True)


@functools.cache
def _text_model(classifier: Classifier, device: str) -> tuple[Any, Any, int]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = (
        AutoModelForSequenceClassification.from_pretrained(classifier.folder, local_files_only=True)
        .float()
        .eval()
        .to(device)
    )
    tokenizer = AutoTokenizer.from_pretrained(classifier.folder, local_files_only=True)
    return model, tokenizer, longest_text(model, tokenizer)
