"""The local stack: the deployed template on this machine, and the commands of the Makefile.

`python -m local` needs nothing but Python. It makes its own environment under `.local/`, where everything else that it
writes is kept too: the emulator's data, build output, logs, generated protobuf code, and `stack.json`.
"""
