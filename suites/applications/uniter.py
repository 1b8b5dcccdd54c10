"""UNITER (Chen et al., 2020), on the BERT classes of transformers, which lacks it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertPreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder

__all__ = ["Uniter"]


class Uniter(BertPreTrainedModel):  # type: ignore[misc]
    """One stream of words and regions (section 3.1), taught by matching and by masked regions.

    A word is a BERT embedding. A region is LN(FC(features) + FC(geometry) + type), its geometry
    seven numbers: left, top, right, bottom, width, height and area, as shares of the picture. A
    BERT encoder runs over both, side by side. Objectives (section 3.2): image-text matching, from
    the first word, and masked region classification, from the region's own output.

    Args:
        config: Of BERT; the second type of token is that of regions.
        features: Numbers that describe a region.
        classes: Classes of a region.
    """

    def __init__(self, config: BertConfig, features: int, classes: int) -> None:
        super().__init__(config)
        self.words = BertEmbeddings(config)
        self.features = nn.Linear(features, config.hidden_size)
        self.geometry = nn.Linear(7, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = BertEncoder(config)
        self.matching = nn.Linear(config.hidden_size, 2)
        self.regions = nn.Linear(config.hidden_size, classes)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,  # (B, words)
        regions: torch.Tensor,  # (B, regions, features), zero where masked
        geometry: torch.Tensor,  # (B, regions, 7)
        attention_mask: torch.Tensor | None = None,  # (B, words + regions), 0 at padding
        matches: torch.Tensor | None = None,  # (B,), 1 where words and regions belong together
        classes: torch.Tensor | None = None,  # (B, regions), −100 where not masked
    ) -> Any:
        """Logits of both objectives, the last hidden states, and the sum of both losses."""
        kind = self.words.token_type_embeddings.weight[1]
        region = self.norm(self.features(regions) + self.geometry(geometry) + kind)
        joined = torch.cat([self.words(input_ids), region], 1)
        mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=joined, attention_mask=attention_mask
        )
        states = self.encoder(joined, attention_mask=mask).last_hidden_state
        matching = self.matching(states[:, 0])
        named = self.regions(states[:, input_ids.shape[1] :])
        loss = None
        if matches is not None and classes is not None:
            loss = F.cross_entropy(matching, matches)
            loss = loss + F.cross_entropy(named.flatten(0, 1), classes.flatten())
        return SimpleNamespace(
            loss=loss, matching=matching, regions=named, last_hidden_state=states
        )
