"""Draw the weight-sets of units that read an image, as small pictures inside a page."""

import base64
import io

import numpy as np

# Units of a group whose pictures are shown. More make the file large.
MOST_SHOWN = 24
_LEAST_PIXELS = 48  # width and height of a picture, so that single weights can be seen


def picture(weights: np.ndarray) -> str:
    """Return a picture of a weight-set as a data URI.

    Args:
        weights: Float array, shape `(height, width, channels)` with 1 or 3 channels. With one
            channel negative weights are blue and positive ones red; with three each channel is
            a color, and grey is 0.
    """
    import matplotlib as mpl

    largest = float(np.max(np.abs(weights), initial=0.0)) or 1.0
    values = 0.5 + 0.5 * weights / largest
    colors = mpl.colormaps["RdBu_r"](values[..., 0])[..., :3] if values.shape[-1] == 1 else values
    factor = max(1, _LEAST_PIXELS // max(weights.shape[:2]))
    pixels = np.kron(colors, np.ones((factor, factor, 1)))
    file = io.BytesIO()
    mpl.image.imsave(file, np.clip(pixels, 0.0, 1.0), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
