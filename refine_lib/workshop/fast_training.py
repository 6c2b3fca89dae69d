"""A training step of a ``LamaGenerator`` in half of the time: the same function of the same parameters.

On a CPU the network itself waits for memory and for calls. Here the residual blocks work on rows, a pixel each, so that what
they compute are products of matrices: 3x3 convolutions too, for a window is a sum of nine rows. A small map's Fourier transform
is a product with a constant matrix. Each Fourier layer has a gradient of its own. The ends of the network keep oneDNN's
convolutions, and the head takes each 2 x 2 pixels as one of four times the channels.
"""

import torch
import torch.nn.functional as F

from refine_lib.networks.lama import FourierBlock
from refine_lib.workshop.muon import best_precision
from refine_lib.workshop.rows import (
    Sum,
    below_autograd,
    by_fours,
    padded_by_fours,
    rows_of,
    spread,
    transform_of,
    unfolded_of,
    windows,
)


def forward_for_training(network, x, precision=None, noise=0.0, generator=None):
    """The prediction of ``network(x)`` in train mode; a ``backward`` fills the gradients of the network's parameters.

    Args:
        network: a ``LamaGenerator``; its batch norms use the batch's statistics and update the running ones.
        x: (B, 4, H, W), as the network takes it; it gets a gradient where it requires one.
        precision: of convolutions and products; None is ``best_precision()``. Statistics, the sum that runs through the blocks
            and the sigmoid keep the parameters' type.
        noise: standard deviation of what is added to the featuremap z that the first block sees, in units of the root mean
            square of the picture's own z.
        generator: of the noise; None is torch's own.

    Returns:
        (B, 3, H, W), of the parameters' type.
    """
    precision = precision or best_precision()
    layers, first, seen = list(network.layers), network.first_block, []
    n_blocks = sum(isinstance(layer, FourierBlock) for layer in layers)
    x = x.to(precision, memory_format=torch.channels_last)
    for layer in layers[1:first]:
        x = _encode(x, layer, 3 if layer is layers[1] else 1, seen)

    z, shape = rows_of(x).to(layers[-2].weight.dtype), (len(x), *x.shape[2:])
    if noise:
        z = z + noise * _scaled_noise(z, len(x), generator)
    for block in layers[first : first + n_blocks]:
        between = _in_rows(block.conv1, z.to(precision), shape, seen)
        z = z + _in_rows(block.conv2, between, shape, seen)
    x = z.to(precision).view(*shape, -1).permute(0, 3, 1, 2)

    rest = layers[first + n_blocks + 1 : -3]  # between what joins local and global and the head
    for enlarge, norm in zip(rest[::3], rest[1::3], strict=True):
        weight = enlarge.weight.to(precision)
        x = F.conv_transpose2d(x, weight, None, enlarge.stride, enlarge.padding, enlarge.output_padding)
        x = _norm_and_relu(x, [norm], seen, enlarge.bias)
    head = layers[-2]
    padded = Sum.apply(rows_of(x), padded_by_fours(len(x), *x.shape[2:]))
    padded = padded.view(len(x), x.shape[2] // 2 + 3, x.shape[3] // 2 + 3, -1).permute(0, 3, 1, 2)
    weight = by_fours(head.weight.to(precision)).contiguous(memory_format=torch.channels_last)
    x = spread(F.conv2d(padded, weight)).to(head.weight.dtype)
    _update_running(seen)
    return torch.sigmoid(x + head.bias[:, None, None])  # here a bias costs less than among the few channels of a convolution


def forward_elsewhere(network, x, noise=0.0, generator=None):
    """The same on a device whose own kernels are fast: the network as it is. Its noise is made of other random numbers.

    Args:
        network, x, noise: as in ``forward_for_training``.
        generator: of the noise, on the CPU.
    """
    z = network.layers[: network.first_block](x)
    if noise:
        tensors = z if isinstance(z, tuple) else (z,)
        size = torch.cat([tensor.detach().flatten(1) for tensor in tensors], dim=1).square().mean(1).sqrt().view(-1, 1, 1, 1)
        drawn = (torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in tensors)
        noisy = tuple(tensor + noise * size * one for tensor, one in zip(tensors, drawn, strict=True))
        z = noisy if isinstance(z, tuple) else noisy[0]
    return network.layers[network.first_block :](z)


def _scaled_noise(z, batch, generator):
    of_picture = z.detach().view(batch, -1)
    size = of_picture.square().mean(1, keepdim=True).sqrt()
    return (size * torch.randn(of_picture.shape, generator=generator, dtype=z.dtype)).view_as(z)


def _encode(x, layer, n_pad, seen):
    """A ``FourierLayer`` that sees no global channels; (B, C, H, W) -> (B, local and global C', H', W')."""
    ffc = layer.ffc
    both = [ffc.convl2l, ffc.convl2g] if ffc.n_global[1] else [ffc.convl2l]
    weight = torch.cat([one.weight.to(x.dtype) for one in both]).contiguous(memory_format=torch.channels_last)
    x = F.conv2d(F.pad(x, (n_pad,) * 4, mode="reflect"), weight, None, ffc.convl2l.stride)
    return _norm_and_relu(x, _norms(layer), seen)


def _norms(layer):
    return [layer.bn_l, layer.bn_g] if layer.ffc.n_global[1] else [layer.bn_l]


def _norm_and_relu(x, norms, seen, shift=None):
    """Batch norm and ReLU of x; ``shift`` is a bias that x has not got: a batch norm takes it away, but for the mean seen."""
    weight = torch.cat([norm.weight for norm in norms])
    bias = torch.cat([norm.bias for norm in norms])
    return _NormAndReLU.apply(x, weight, bias, shift, norms, seen)


class _NormAndReLU(torch.autograd.Function):
    """Batch norm by the batch's own statistics over channels of one or two norms, and a ReLU."""

    @staticmethod
    def forward(ctx, x, weight, bias, shift, norms, seen):
        x = x.contiguous(memory_format=torch.channels_last)
        with below_autograd():
            made, kept = _normalize(rows_of(x), weight, bias, norms, seen, None if shift is None else shift.add)
        ctx.save_for_backward(*kept, weight)
        ctx.has_shift = shift is not None
        return made.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        *kept, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        with below_autograd():
            to_x, *to_parameters = _normalize_back(rows_of(gradient), weight, kept)
        to_shift = torch.zeros_like(weight) if ctx.has_shift else None
        return to_x.view(gradient.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), *to_parameters, to_shift, None, None


def _normalize(rows, weight, bias, norms, seen, to_mean=None, order=None):
    """Batch norm and ReLU of (N, C); ``seen`` gets the statistics. Also returns what the gradient needs."""
    made, mean, scale = torch.native_batch_norm(_as_map(rows), weight, bias, None, None, True, 0.0, norms[0].eps)
    made = rows_of(made).relu_()
    seen.append((norms, mean, scale, len(rows), to_mean or order, order))
    return made, (rows, made, mean, scale)


def _normalize_back(gradient, weight, kept):
    """The gradients by rows, weight and bias."""
    rows, made, mean, scale = kept
    gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
    wanted = [True, True, True]
    back = torch.ops.aten.native_batch_norm_backward
    to_x, *to_parameters = back(_as_map(gradient), _as_map(rows), weight, None, None, mean, scale, True, 0.0, wanted)
    return rows_of(to_x), *to_parameters


def _as_map(rows):
    """(N, C) -> (1, C, N, 1), channels last."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _update_running(seen):
    """Moves the running statistics of all batch norms, as ``nn.BatchNorm2d`` does; they share their eps and momentum."""
    norms, sizes, bessel = [], [], []
    for some, _, _, n, _, _ in seen:
        norms += some
        sizes += [norm.num_features for norm in some]
        bessel += [n / (n - 1)] * len(some)
    means = torch.cat([mean if change is None else change(mean) for _, mean, _, _, change, _ in seen])
    scales = torch.cat([scale if change is None else change(scale) for _, _, scale, _, _, change in seen])
    variances = (scales.square().reciprocal() - norms[0].eps).split(sizes)
    variances = torch._foreach_mul(variances, bessel)
    torch._foreach_lerp_([norm.running_mean for norm in norms], means.split(sizes), norms[0].momentum)
    torch._foreach_lerp_([norm.running_var for norm in norms], variances, norms[0].momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)


def _in_rows(layer, rows, shape, seen):
    """A ``FourierLayer`` of a block: (pixels, C) -> (pixels, C), local channels first; shape is (B, H, W)."""
    ffc = layer.ffc
    parameters = [ffc.convl2l.weight, layer.bn_l.weight, layer.bn_l.bias]
    if ffc.n_global[0]:
        squeeze, unit = ffc.convg2g.conv1, ffc.convg2g.fu
        parameters += [ffc.convg2l.weight, layer.bn_g.weight, layer.bn_g.bias, ffc.convl2g.weight, ffc.convg2g.conv2.weight]
        parameters += [squeeze[0].weight, squeeze[1].weight, squeeze[1].bias]
        parameters += [unit.conv_layer.weight, unit.bn.weight, unit.bn.bias]
    return _Layer.apply(rows, layer, shape, seen, *parameters)


class _Layer(torch.autograd.Function):
    """What ``_in_rows`` does, with a gradient of its own.

    To the few local channels a convolution is a product first, with the weights of all nine places, and then sums over windows;
    from them it is windows first.
    """

    @staticmethod
    def forward(ctx, x, layer, shape, seen, l2l, weight, bias, *of_global):
        with below_autograd():
            n_local, dtype = len(l2l), x.dtype
            to_local = torch.cat([l2l, of_global[0]], dim=1) if of_global else l2l
            to_local = to_local.permute(2, 3, 0, 1).to(dtype, memory_format=torch.contiguous_format).flatten(0, 2)
            made = windows(*shape)(F.linear(x, to_local).view(-1, n_local))
            kept = []
            if of_global:
                _, weight_g, bias_g, l2g, widen, *spectral = of_global
                unfolded = unfolded_of(*shape)(x[:, :n_local].contiguous()).view(len(x), -1)
                to_global = l2g.permute(0, 2, 3, 1).to(dtype, memory_format=torch.contiguous_format).flatten(1)
                widen = widen.flatten(1).to(dtype)
                squeezed, of_spectral = _spectral(
                    x[:, n_local:], transform_of(*shape, dtype), layer.ffc.convg2g, seen, *spectral
                )
                global_ = F.linear(unfolded, to_global).addmm_(squeezed, widen.mT)
                made = torch.cat([made, global_], dim=1)
                weight, bias = torch.cat([weight, weight_g]), torch.cat([bias, bias_g])
                kept = [unfolded, to_global, squeezed, widen, *of_spectral]
            made, of_norm = _normalize(made, weight, bias, _norms(layer), seen)
        ctx.save_for_backward(x, to_local, weight, l2l, *of_norm, *kept, *of_global)
        ctx.shape, ctx.n_kept = shape, len(kept)
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, to_local, weight, l2l, *saved = ctx.saved_tensors
        of_norm, kept, of_global = saved[:4], saved[4 : 4 + ctx.n_kept], saved[4 + ctx.n_kept :]
        n_local, shape = len(l2l), ctx.shape
        with below_autograd():
            gradient, to_weight, to_bias = _normalize_back(gradient.contiguous(), weight, of_norm)
            local = gradient[:, :n_local].contiguous() if of_global else gradient
            places = windows(*shape).back(local).view(len(x), -1)
            to_x = places @ to_local
            to_places = (places.mT @ x).view(3, 3, n_local, -1).permute(2, 3, 0, 1)
            if not of_global:
                return to_x, None, None, None, _like(l2l, to_places), to_weight, to_bias
            unfolded, to_global, squeezed, widen, *of_spectral = kept
            g2l, _, _, l2g, widen_parameter, *spectral = of_global
            global_ = gradient[:, n_local:].contiguous()
            to_l2g = (global_.mT @ unfolded).view(-1, 3, 3, n_local).permute(0, 3, 1, 2)
            to_x[:, :n_local] += unfolded_of(*shape).back((global_ @ to_global).view(-1, n_local))
            to_widen = _like(widen_parameter, global_.mT @ squeezed)
            transform = transform_of(*shape, x.dtype)
            to_spectral = _spectral_back(to_x[:, n_local:], global_ @ widen, x[:, n_local:], transform, of_spectral, spectral)
            n = len(to_weight) - n_local
            (to_weight, to_weight_g), (to_bias, to_bias_g) = (t.split([n_local, n]) for t in (to_weight, to_bias))
            to_l2l, to_g2l = _like(l2l, to_places[:, :n_local]), _like(g2l, to_places[:, n_local:])
            to_local = to_l2l, to_weight, to_bias
            return to_x, None, None, None, *to_local, to_g2l, to_weight_g, to_bias_g, _like(l2g, to_l2g), to_widen, *to_spectral


def _spectral(x, transform, of, seen, squeeze, weight, bias, mix, weight_mix, bias_mix):
    """A ``SpectralTransform`` but for its last convolution: (pixels, C) -> (pixels, C / 2), and what the gradient needs."""
    squeeze = squeeze.flatten(1).to(x.dtype)
    squeezed, of_norm = _normalize(x @ squeeze.mT, weight, bias, [of.conv1[1]], seen)
    spectrum = transform.to_spectrum(squeezed)
    weight_mix, bias_mix = _parts_first_of(weight_mix), _parts_first_of(bias_mix)
    n = len(mix) // 2  # of the parts of a channel, which lie together: all real parts first, then all imaginary ones
    mix = mix.view(n, 2, n, 2).transpose(0, 1).transpose(2, 3).reshape(2 * n, 2 * n).to(x.dtype)
    mixed, of_mix = _normalize(F.linear(spectrum, mix), weight_mix, bias_mix, [of.fu.bn], seen, order=_parts_together)
    return transform.to_picture(mixed).add_(squeezed), (squeeze, mix, weight_mix, spectrum, *of_norm, *of_mix)


def _spectral_back(to_x, gradient, x, transform, kept, parameters):
    """Adds to ``to_x`` and returns the gradients by the parameters."""
    squeeze, mix, weight_mix, spectrum, *of_norms = kept
    mixed = transform.to_spectrum(gradient, transposed=True)
    mixed, *to_norm_mix = _normalize_back(mixed, weight_mix, of_norms[4:])
    to_mix = (mixed.mT @ spectrum).view(2, len(mix) // 2, 2, -1).permute(1, 0, 3, 2)
    gradient = transform.to_picture(mixed @ mix, transposed=True).add_(gradient)
    gradient, *to_norm = _normalize_back(gradient, parameters[1], of_norms[:4])
    to_x.addmm_(gradient, squeeze)
    to_squeeze = _like(parameters[0], gradient.mT @ x)
    return to_squeeze, *to_norm, _like(parameters[3], to_mix), *map(_parts_together, to_norm_mix)


def _parts_first_of(x):
    return x.view(-1, 2).mT.flatten()


def _parts_together(x):
    return x.view(2, -1).mT.flatten()


def _like(parameter, gradient):
    """A gradient in its parameter's type and memory format: torch then keeps it as it is."""
    return torch.empty_like(parameter).copy_(gradient.reshape(parameter.shape))
