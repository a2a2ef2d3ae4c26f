"""What tools/build leaves for tools/place, with files of no use."""


def make_stage(directory):
    for name in ("lib/prism_crypt.so", "extension/prism_crypt.control", "extension/prism_crypt--1.0.0.sql"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"-- {name}\n")
    return directory
