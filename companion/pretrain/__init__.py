"""The long run: GPT-2 trained for real, on one machine or many. `python -m companion.pretrain`.

    prepare       texts to token shards              python -m companion.pretrain.prepare
    shards        files of ids that say what they are
    loader        what each process reads
    config        every choice, and three presets
    loop          steps, estimates, samples
    checkpoints   kept whole or not at all; gone on from to the same bits
    watching      the line, the metrics

Composed of what the lessons built: the model (13), the loss (07), the optimizer (18), the processes
(19). Lesson 20 runs it.
"""
