import torch
from torch import nn


class Block(nn.Module):
    """Attention and two linear layers, each added to what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_linear = nn.LayerNorm(width)
        self.linear = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask, remember):
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [texts, heads, tokens, size]
        k, v = remember(k, v)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.linear(self.norm_linear(x))


class GPT(nn.Module):
    """Scores of the token that follows each token of some texts.

    It remembers the keys and values of `slots` texts, so that a text which goes on isn't read again.
    """

    def __init__(self, vocabulary, *, depth=4, width=192, heads=4, context=256, slots=0):
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)
        cache = torch.zeros(depth, 2, slots, heads, context, width // heads)
        self.register_buffer("cache", cache, persistent=False)

    def forward(self, tokens, slots=None, starts=None):
        """Return scores, [texts, tokens, vocabulary], for tokens [texts, tokens].

        Without slots, these are whole texts. With them, they go on after `starts[n]` tokens in `slots[n]`.
        """
        num_texts, length = tokens.shape
        starts = [0] * num_texts if starts is None else starts
        longest = max(starts) + length
        places = torch.tensor(starts, device=tokens.device)[:, None] + torch.arange(
            length, device=tokens.device
        )
        mask = torch.arange(longest, device=tokens.device) <= places[:, None, :, None]
        x = self.tokens(tokens) + self.places(places)
        for block, cache in zip(self.blocks, self.cache, strict=True):
            x = block(x, mask, lambda k, v, cache=cache: self._remember(cache, k, v, slots, places, longest))
        return self.norm(x) @ self.tokens.weight.T

    @staticmethod
    def _remember(cache, k, v, slots, places, longest):
        """Write keys and values to their slots, and return all that these hold."""
        if slots is None:
            return k, v
        first, last = slots[0], slots[-1]
        side_by_side = slots == list(range(first, last + 1))
        rows = slice(first, last + 1) if side_by_side else slots  # a slice is a view, and copies nothing
        where = torch.tensor(slots, device=k.device)[:, None]
        for kept, new in zip(cache, (k, v), strict=True):
            kept[where, :, places] = new.transpose(1, 2)
        keys, values = cache[:, rows, :, :longest]
        return keys, values
