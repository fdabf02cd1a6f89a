"""The map of a told change over three slices of the later scan."""

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap

from trainer.report.plots import BLUE, ORANGE, new_plot, to_png

Floats = npt.NDArray[np.float64]
_FAINT = 0.15
"""Share of the largest density below which nothing is laid over the scan."""
_SLICES = (("sagittal", 0), ("coronal", 1), ("axial", 2))


def map_plot(later_DHW: Floats, density_DHW: Floats, *, told: float, true: float, score: str) -> bytes:
    """Draw three slices through the place of the largest density.

    Args:
        later_DHW: brightness 0 to 1, axes RAS+.
        density_DHW: points of the score per cm3, positive where they speak for improvement.
        told: told change in points, positive where the person got better.
        true: true change, likewise.
        score: its name.
    """
    largest = float(np.abs(density_DHW).max()) or 1.0
    place = np.unravel_index(int(np.abs(density_DHW).argmax()), density_DHW.shape)
    colours = LinearSegmentedColormap.from_list("change", [ORANGE, "#ffffff", BLUE])
    plot = new_plot(8.4)
    panels = plot.subplots(1, 3)
    shown = None
    for panel, (name, axis) in zip(panels, _SLICES, strict=True):
        scan, density = (np.take(values, place[axis], axis=axis).T for values in (later_DHW, density_DHW))
        strength = np.clip((np.abs(density) / largest - _FAINT) / (1 - _FAINT), 0, 1)
        panel.imshow(scan, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        shown = panel.imshow(
            density, origin="lower", cmap=colours, vmin=-largest, vmax=largest, alpha=np.sqrt(strength) * 0.85,
            interpolation="nearest",
        )  # fmt: skip
        panel.set_title(name, fontsize=9)
        panel.set_axis_off()
    assert shown is not None
    bar = plot.colorbar(shown, ax=list(panels), fraction=0.025, pad=0.02)
    bar.set_label(f"points of {score} per cm³", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return to_png(plot, f"Told {told:+.1f} points of {score}, in truth {true:+.1f}")
