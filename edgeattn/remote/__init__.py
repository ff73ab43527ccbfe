"""Build, prove and measure on another machine over SSH, with the code that does so here.

    host.Host(address, ...)                    where, and how `ssh` is to go there
    device.connect(host, backend, ...)         what is there: processor, precisions, libraries; or one sentence
    Device.step(name, key, values, files)      one step there: its values, and its files brought back

On this side: `host`, `ssh` (the command line and what its failures mean), `line` (its process), `records` (what the far
side may say), `conversation` (one connection), `package` (what travels) and `device`. On the far side, where Python
3.10, NumPy, OpenCV and one engine library are all there is: `bootstrap` (sent over standard input, standard library
only), `far` (lock, records) and `steps` (the work itself).
`shards` holds arrays for both.

The far side keeps everything below `~/.cache/edgeattn/remote`:

    files/<sha256>          whatever was sent or made, named by its content, under a temporary name until it is whole
    steps/<key>.json        a finished step, named by the hash of what it was made from: values, and files by hash
    work/<key>/             a step in progress; of no use to anybody but the process that is at it
    packages/<sha256>/      this package, unpacked
    lock                    held while a step runs: what is measured side by side would disturb each other

So a step is whole or not there, and running again after a lost connection goes on with the first one that is missing.
"""
