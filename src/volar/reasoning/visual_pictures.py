"""Marks drawn on the pictures that a policy sees, and crops around them; batched, on whatever device they are."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from volar.reasoning.visual_slots import Places, Slot, Standing

# Saturated hues that table-top scenes rarely hold together; by order, or by role in the order of the slots.
COLOURS = ((255, 0, 255), (0, 255, 255), (255, 255, 0), (255, 128, 0), (128, 0, 255), (0, 255, 0))
DONE = (128, 128, 128)
RADIUS, LINE = 0.06, 0.02  # of a ring and of a line, in fractions of the picture's height


def draw(
    pictures: UInt8[Tensor, "b height width 3"], places: Places, slots: Sequence[Slot], camera: str
) -> UInt8[Tensor, "b height width 3"]:
    """A ring around a point, a frame around a box, so that what is marked can still be seen; done ones are grey."""
    height, width = pictures.shape[1:3]
    drawn = pictures.clone()
    for index, slot in enumerate(slots):
        if slot.camera != camera:
            continue
        lines = _lines(places.box[:, index], height, width) & places.there[:, index, None, None]
        hue = torch.tensor(COLOURS[((slot.order or index + 1) - 1) % len(COLOURS)], device=pictures.device)
        colour = torch.where(
            (places.standing[:, index, None] == Standing.DONE), torch.tensor(DONE, device=hue.device), hue
        )
        drawn = torch.where(lines[..., None], colour[:, None, None].to(torch.uint8), drawn)
    return drawn


def _lines(box: Float[Tensor, "b 4"], height: int, width: int) -> Bool[Tensor, "b height width"]:
    """Where the line of each mark runs."""
    centre, half = box[:, :2], box[:, 2:] / 2
    u = (torch.arange(width, device=box.device) + 0.5) / width
    v = (torch.arange(height, device=box.device) + 0.5) / height
    line = max(LINE, 1 / height)
    x, y = (u - centre[:, :1]) * (width / height), v - centre[:, 1:]  # in heights, from the centre
    x, y = x[:, None, :], y[:, :, None]
    ring = ((x**2 + y**2).sqrt() - RADIUS).abs() <= line / 2
    beyond = torch.maximum(x.abs() - half[:, 0, None, None] * (width / height), y.abs() - half[:, 1, None, None])
    is_box = (half > 0).any(-1)[:, None, None]
    return torch.where(is_box, (beyond > 0) & (beyond <= line), ring)


def cut_out(
    pictures: UInt8[Tensor, "b height width 3"], centre: Float[Tensor, "b 2"], share: float
) -> UInt8[Tensor, "b height width 3"]:
    """`share` of the width and height around each centre, brought to the size of the whole; black beyond the edge."""
    frames = pictures.permute(0, 3, 1, 2).float()
    turn = torch.zeros(len(frames), 2, 3, device=frames.device)
    turn[:, 0, 0] = turn[:, 1, 1] = share
    turn[:, :, 2] = 2 * centre - 1
    grid = F.affine_grid(turn, list(frames.shape), align_corners=False)
    cut = F.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return cut.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
