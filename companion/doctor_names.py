"""All that the doctor can find: its name, the verdict, and where one usually looks.

In order of gravity, causes before what they cause."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["GRAVITY", "KNOWN"]

KNOWN = {
    "weights-not-finite": (
        "a weight is NaN or infinite",
        "how it was set or loaded; a step whose gradient was not finite",
    ),
    "dtypes-mixed": (
        "the weights are not all of one dtype",
        "a .half() or .double() on a part; weights loaded in another dtype",
    ),
    "raises": (
        "the model raises",
        "the arguments that forward asks for, and its shapes",
    ),
    "no-logits": (
        "no logits at every position come back",
        "what forward returns: (B, T, V), bare, in a tuple, or by the name `logits`",
    ),
    "vocabulary-cut": (
        "there are fewer logits than tokens",
        "out_features of the last Linear",
    ),
    "context-fails": (
        "a text of block_size tokens makes it raise",
        "rows of the position table, size of the mask, positions that start above 0",
    ),
    "short-fails": (
        "a short text makes it raise",
        "a mask or a position table that is not cut to T",
    ),
    "outputs-not-finite": (
        "a logit is NaN or infinite",
        "rows of a mask that let nothing through, a division by 0, float16",
    ),
    "unregistered": (
        "layers are used that the model has not registered",
        "a list or dict where an nn.ModuleList or nn.ModuleDict should be",
    ),
    "eval-random": (
        "in eval mode, two runs on one text differ",
        "F.dropout without training=self.training; a Dropout that eval() misses",
    ),
    "state-kept": (
        "a run changes what the next one gives",
        "an attribute or buffer that forward writes to: a cache, += on a weight",
    ),
    "ignores-ids": (
        "the logits do not depend on the text",
        "a factor of 0, an input that is overwritten, a result that is not used",
    ),
    "mixes-batch": (
        "a text's logits depend on the other texts of the batch",
        "a view where a transpose was meant; a mean or a norm over axis 0",
    ),
    "sees-future": (
        "logits depend on later tokens",
        "the mask: left out, off by one, transposed; the axis of the softmax; a norm "
        "over (T, C) for C; a view, where a transpose was meant, that mixes tokens",
    ),
    "short-differs": (
        "a text's beginning gets other logits alone than with what follows it",
        "positions counted from the end; a mean over all positions; padding",
    ),
    "ignores-past": (
        "logits depend on no earlier token",
        "attention that is not added; a mask that leaves only the diagonal",
    ),
    "blind-to-positions": (
        "the first block cannot tell in which order the earlier tokens came",
        "positions that are not added, or are all the same",
    ),
    "probabilities": (
        "the outputs are probabilities already",
        "a softmax at the end of forward: the loss takes another",
    ),
    "wrong-gradient": (
        "the gradient is not the slope of the loss",
        "a detach() or .data in the way of some gradient, no_grad around a part",
    ),
    "frozen": ("parameters are frozen", "requires_grad, where it was set to False"),
    "no-gradient": (
        "parameters get no gradient from the loss",
        "layers that forward does not use; detach(), .data, no_grad",
    ),
    "position-rows": (
        "rows of the position table are never used",
        "how positions are counted in forward",
    ),
    "tie-copied": (
        "the token table and the last layer are copies, not one tensor",
        "lm_head.weight = wte.weight, without clone(), copy_() or .data, and once more "
        "after load_state_dict(assign=True)",
    ),
    "tie-broken": (
        "the config says tied, and the weights are not",
        "what replaced one of them: an init, load_state_dict(assign=True), a new head",
    ),
    "initial-loss": (
        "an untrained model is far from ln V",
        "the spread of the initial weights: of the token table and last layer first",
    ),
    "worse-than-chance": (
        "on its own batch the model does worse than equal odds",
        "its training; whether it is this model's text and tokenizer",
    ),
    "residual-growth": (
        "the residual stream grows with depth more than it should at the start",
        "the start of each branch's last Linear (c_proj); an x that is added twice; "
        "a norm that is left out",
    ),
    "scores-unscaled": (
        "attention's scores are not divided by the root of the head size",
        "q @ k.mT / sqrt(head size)",
    ),
    "loss-fails": ("loss_fn cannot be used", "loss_fn(logits, targets), a scalar"),
    "targets-unrelated": (
        "the batch's targets are not its ids, shifted",
        "how the loader makes targets",
    ),
    "targets-unshifted": (
        "the loss asks for a token that the model has just read",
        "the shift: targets[b, t] should be ids[b, t + 1]",
    ),
    "targets-shifted-twice": (
        "the loss asks for a token further on than the next",
        "a shift in the loader and another in the loss",
    ),
    "loss-double-softmax": (
        "the loss takes the softmax of a softmax",
        "cross_entropy wants logits; nll_loss wants log_softmax",
    ),
    "loss-no-softmax": (
        "the loss takes logits for log-probabilities",
        "nll_loss where cross_entropy was meant",
    ),
    "loss-not-mean": (
        "the loss is not a mean over tokens, in nats",
        "reduction='sum'; a division by another number than that of the targets",
    ),
    "optimizer-stale": (
        "the optimizer steps tensors that are not the model's",
        "an optimizer made before weights were tied, replaced or copied",
    ),
    "optimizer-missing": (
        "the optimizer lacks parameters",
        "how its groups are chosen; layers added after it was made",
    ),
    "optimizer-doubled": (
        "the optimizer steps a parameter more than once",
        "groups made from names or modules rather than from parameters",
    ),
    "optimizer-decay": (
        "weight decay pulls at the wrong parameters",
        "companion.optim.decay_groups: matrices decay, biases and norms do not",
    ),
    "cannot-overfit": (
        "one small batch cannot be learned by heart",
        "all of the above; then the forward pass, line by line",
    ),
    "mask-too-large": (
        "the mask is larger than the context",
        "torch.tril(torch.ones(n, n)): n should be block_size",
    ),
}

GRAVITY = {name: place for place, name in enumerate(KNOWN)}
