"""Resuming training exactly where it stopped: Lightning's fault tolerance, for all trainings of castlit.

How ``resume=last`` works, in the order of a run:

1. :mod:`~castlit.resume.find_run` finds the folder of the run to resume, before Hydra makes a new one;
   :mod:`~castlit.resume.request` reads what the user gave, and SLURM's requeued jobs.
2. :mod:`~castlit.resume.start` chooses the checkpoint and checks that it is of this run, readable and unfinished
   (:mod:`~castlit.resume.training_run`: by method and optimiser). Lightning then loads it as its ``ckpt_path``.
3. :mod:`~castlit.resume.exact_resume` restores what Lightning leaves out: the position within the epoch
   (:mod:`~castlit.resume.loop_state`), the random generators (:mod:`~castlit.resume.rng_state`), accumulated gradients.
   The loader of :mod:`castlit.data` starts at the next batch; views depend on (seed, epoch, index) only.
4. :mod:`~castlit.resume.last_checkpoint` writes ``last.ckpt`` regularly and after a signal, atomically
   (:mod:`~castlit.resume.checkpoint_io`). :mod:`~castlit.resume.finite_loss` stops a run before a loss that is not
   finite reaches a checkpoint.
"""
