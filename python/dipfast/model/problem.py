"""Hold a measurement together with its forward model and its noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from dipfast.model.bootstrap import Split
from dipfast.model.jpeg import JpegSet
from dipfast.model.neighbours import Neighbours
from dipfast.model.noise import NoiseModel
from dipfast.model.operators import Operator, known_mask

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """Describe what was measured, and how: y = A(u) + noise.

    Parameters
    ----------
    measurement
        The measurement y, of shape (N, C, H, W).
    operator
        The forward model A.
    noise
        The noise of y.  The data term is 1/2 || r ||^2 with r the difference of y and its
        expectation (:meth:`NoiseModel.residual`), which is A u for white noise.
    held_out
        Elements of y that are held out from the fit, for a stop rule to measure the error of:
        boolean, of a shape that broadcasts to that of y; None for none.
    outliers
        Elements of y that are wrong, such as hot pixels, and not fitted: boolean, of a shape that
        broadcasts to that of y; None for none.
    split
        The split of what was measured, of which y is the one half and a stop rule has the other;
        None, the default, where y is what was measured.
    jpeg
        The pictures that the JPEG can be of which y was decoded from; None, the default, where the
        noise is all that is known.
    neighbours
        The planes of a stack that help this one; None, the default, for none.
    """

    measurement: Tensor
    operator: Operator
    noise: NoiseModel
    held_out: Tensor | None = None
    outliers: Tensor | None = None
    split: Split | None = None
    jpeg: JpegSet | None = None
    neighbours: Neighbours | None = None

    @cached_property
    def known(self) -> Tensor | None:
        """Return a mask of the elements of y that are fitted, a boolean tensor; None for all.

        These are the elements that were measured, and are neither held out nor outliers.
        """
        known = known_mask(self.operator)
        for left_out in (self.held_out, self.outliers):
            if left_out is not None:
                known = ~left_out if known is None else known & ~left_out
        return known

    @cached_property
    def count(self) -> int:
        """Return the number of the elements of y that are fitted; waits for the device."""
        if self.known is None:
            return self.measurement.numel()
        return int(self.known.expand(self.measurement.shape).sum())

    @cached_property
    def held_out_problem(self) -> Problem | None:
        """Return the problem whose fitted elements are those held out here; None without any."""
        if self.held_out is None:
            return None
        unseen = replace(self, held_out=~self.held_out)
        return unseen if unseen.count > 0 else None

    def error(self, image: Tensor) -> Tensor:
        """Return the difference E[y] - y for an image u, which no weights scale.

        It tells which of several images is the best: the weights of :meth:`residual` are those of
        the image itself, and less for a brighter one where noise grows with the signal.

        Parameters
        ----------
        image
            The image u, of a shape that the operator takes, in [0, 1].

        Returns
        -------
        Tensor
            The difference, of the shape of y; 0 where y is not fitted.
        """
        return self._difference(image, self.measurement)

    def unseen_error(self, image: Tensor) -> float:
        """Return the mean square error of an image, but for a constant; waits for the device.

        Parameters
        ----------
        image
            The image u, of a shape that the operator takes, in [0, 1].

        Returns
        -------
        float
            The mean square of E[y] - y- over the elements that are fitted, with the half y- of the
            split.
        """
        assert self.split is not None
        error = self._difference(image, self.split.unseen)
        # Differences of a thousandth of the error matter; some devices have no float64.
        return float(error.cpu().double().square().sum()) / self.count

    def _difference(self, image: Tensor, measured: Tensor) -> Tensor:
        """Return E[y] of an image minus what was measured; 0 where it is not fitted."""
        difference = self.noise.expectation(self.operator(image)) - measured
        return difference if self.known is None else difference.where(self.known, 0)

    def residual(self, image: Tensor) -> Tensor:
        """Return the residual r of an image u: :meth:`NoiseModel.residual` of A u.

        Parameters
        ----------
        image
            The image u, of a shape that the operator takes, in [0, 1].

        Returns
        -------
        Tensor
            The residual, of the shape of y; 0 where y is not fitted.
        """
        residual = self.noise.residual(self.operator(image), self.measurement)
        return residual if self.known is None else residual.where(self.known, 0)

    def mean_square(self, image: Tensor) -> float:
        """Return the mean of r^2 over the elements that are fitted; waits for the device.

        Parameters
        ----------
        image
            The image u, of a shape that the operator takes, in [0, 1].

        Returns
        -------
        float
            The mean square, from 0 up.
        """
        return float(self.residual(image).square().sum()) / self.count

    def expected_square(self, image: Tensor) -> float:
        """Return the mean of r^2 that the clean image would have; may wait for the device.

        Parameters
        ----------
        image
            An estimate of that image, of a shape that the operator takes, in [0, 1].

        Returns
        -------
        float
            The mean square: the typical variance of the noise, or less where there is less of it
            than the weights of r make up for (:meth:`NoiseModel.residual_variance`).
        """
        if self.noise.is_white or self.noise.is_free:
            return self.noise.typical_variance
        expected = self.noise.residual_variance(self.operator(image))
        if self.known is not None:
            expected = expected.where(self.known, 0)
        return float(expected.sum()) / self.count
