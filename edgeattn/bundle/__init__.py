"""Bundles: everything a device needs in one `*.edgeattn` file, every byte of it accounted for.

    writer.write_bundle(out, manifest, files)    model, engine and golden I/O -> one file
    reader.open_bundle(path) -> Bundle           hashes and signature verified before anything is parsed
    golden.make_golden, golden.check_golden      proof that an engine still computes what it computed when it was built

Reading runs on Python 3.10 with NumPy and OpenCV alone; signatures need the library `cryptography`.
"""
