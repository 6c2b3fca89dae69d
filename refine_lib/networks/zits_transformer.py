"""ZITS, the transformer that completes edges and lines in a hole of a picture of 256 x 256 px."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

HEADS = 8
GRID = 32  # tokens along a side
ROUNDS = 5


class Attention(nn.Module):
    """Attention of ``HEADS`` heads among tokens, with a bias for each head and pair: (B, N, C) -> (B, N, C)."""

    def __init__(self, n: int):
        super().__init__()
        self.key, self.query, self.value, self.proj = (nn.Linear(n, n) for _ in range(4))

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        query, key, value = (f(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(seen.transpose(1, 2).flatten(2))


class AxialBlock(nn.Module):
    """x + R + C, then + ff(ln2(.)): attention R along each column, whose names say row, and C along each row.

    Shape: (B, H, W, C) -> (B, H, W, C).
    """

    def __init__(self, n: int):
        super().__init__()
        self.rln1, self.cln1, self.ln2 = (nn.LayerNorm(n, eps=1e-4) for _ in range(3))
        self.attn_row, self.attn_col = Attention(n), Attention(n)
        self.ff = nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))
        self.row_rel_pos_bias, self.col_rel_pos_bias = (nn.Embedding(2 * GRID - 1, HEADS) for _ in range(2))
        for bias in (self.row_rel_pos_bias, self.col_rel_pos_bias):  # a row for each head, as it is published
            bias.weight = nn.Parameter(torch.zeros(HEADS, 2 * GRID - 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(GRID, device=x.device)
        offset = place - place[:, None] + GRID - 1  # j - i of query i and key j, from 0 on
        columns, rows = self.rln1(x).transpose(1, 2), self.cln1(x)
        r = self.attn_row(columns.flatten(0, 1), self.row_rel_pos_bias.weight[:, offset])
        c = self.attn_col(rows.flatten(0, 1), self.col_rel_pos_bias.weight[:, offset])
        x = x + r.view_as(columns).transpose(1, 2) + c.view_as(rows)
        return x + self.ff(self.ln2(x))


class QuickGELU(nn.Module):
    """v sigmoid(1.702 v)."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.sigmoid(1.702 * v)


class FullBlock(nn.Module):
    """x + attn(ln1(x)), then + mlp(ln2(.)), among all tokens: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, n: int):
        super().__init__()
        self.ln1, self.ln2, self.attn = nn.LayerNorm(n), nn.LayerNorm(n), Attention(n)
        self.mlp = nn.Sequential(nn.Linear(n, 4 * n), QuickGELU(), nn.Linear(4 * n, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x).flatten(1, 2)).view_as(x)
        return x + self.mlp(self.ln2(x))


class StructureTransformer(nn.Module):
    """Completes edges and lines; the defaults are those of the published one.

    Args:
        dim: channels of a token, a multiple of 8.
        depth: blocks, axial and full by turns.
    """

    def __init__(self, dim: int = 256, depth: int = 16):
        super().__init__()
        halve: Any = 4, 2, 1  # kernel size, stride, padding
        self.conv1, self.conv2 = nn.Conv2d(6, dim // 4, 7), nn.Conv2d(dim // 4, dim // 2, *halve)
        self.conv3, self.conv4 = nn.Conv2d(dim // 2, dim, *halve), nn.Conv2d(dim, dim, *halve)
        self.pos_emb = nn.Parameter(torch.zeros(1, GRID**2, dim))
        self.blocks = nn.Sequential(*((FullBlock if i % 2 else AxialBlock)(dim) for i in range(depth)))
        self.ln_f = nn.LayerNorm(dim)
        self.convt1, self.convt2 = nn.ConvTranspose2d(dim, dim, *halve), nn.ConvTranspose2d(dim, dim // 2, *halve)
        self.convt3, self.convt4 = nn.ConvTranspose2d(dim // 2, dim // 4, *halve), nn.Conv2d(dim // 4, 2, 7)

    def forward(self, image: torch.Tensor, edge: torch.Tensor, line: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One pass.

        Args:
            image: (B, 3, 256, 256) in [-1, 1].
            edge, line, mask: (B, 1, 256, 256) in [0, 1]; what all hold where the mask is 1 is not looked at.

        Returns:
            (B, 2, 256, 256), logits of edges and of lines.
        """
        x = torch.cat([torch.cat([image, edge, line], dim=1) * (1 - mask), mask], dim=1)
        x = torch.relu(self.conv1(F.pad(x, [3] * 4, mode="reflect")))
        for layer in (self.conv2, self.conv3, self.conv4):
            x = torch.relu(layer(x))
        x = x.permute(0, 2, 3, 1)
        x = self.ln_f(self.blocks(x + self.pos_emb.view(1, GRID, GRID, -1))).permute(0, 3, 1, 2)
        for layer in (self.convt1, self.convt2, self.convt3):
            x = torch.relu(layer(x))
        return self.convt4(F.pad(x, [3] * 4, mode="reflect"))

    def completed(self, image, edge, line, mask, rounds: int = ROUNDS) -> tuple[torch.Tensor, torch.Tensor]:
        """Edges, 0 or 1, and lines, in [0, 1], of one picture, known and in the hole. Arguments are as in ``forward``.

        In round i = 0 .. n - 1, with p and q the chances of edge and line and m the rest of the hole, the share (i + 1) / n of
        m leaves it: the pixels of most certainty, max(1 - p, p + 0.5) + max(1 - q, q + 0.5). What is left is found anew.
        """
        image, edge, line, m = image * (1 - mask), edge * (1 - mask), line * (1 - mask), mask
        for i in range(rounds):
            edge_logit, line_logit = self(image, edge, line, m).chunk(2, dim=1)
            p, q = torch.sigmoid(edge_logit), torch.sigmoid(4 * (line_logit + 0.05))
            edge, line = (edge + p * m >= 0.25).to(m), line + q * m
            certainty = torch.maximum(1 - p, p + 0.5) + torch.maximum(1 - q, q + 0.5)
            n_leave = int((i + 1) / rounds * m.count_nonzero().item())
            leave = certainty.where(m > 0, -1).flatten().topk(n_leave).indices
            m = m.flatten().index_fill(0, leave, 0).view_as(m)
            edge, line = edge * (1 - m), line * (1 - m)
        return edge, line
