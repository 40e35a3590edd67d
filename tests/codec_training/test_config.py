import pytest

from codec_training.config import CONFIGS, load_config
from semantic_codec.errors import ConfigError, NotFound

GOOD = """
[codec]
name = "tiny"
codec_id = 9
dataset = "digits"
levels = [16, 64]
[encoder]
height = 8
width = 8
stem_channels = 8
latent_channels = 4
blocks = [{ kind = "conv", channels = 8 }]
"""


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: path.stem)
def test_our_own_configurations_load(path):
    assert load_config(path.stem).codec.name == path.stem
    assert load_config(str(path)) == load_config(path.stem)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("codec_id = 9", "codec_id = 'nine'", "codec_id is 'nine'; allowed: a value of type int"),
        ("levels = [16, 64]", "levels = [64, 16]", r"levels are \[64, 16\]"),
        ("codec_id = 9", "codec_id = 64", "codec_id is 64; allowed: 0 to 63; fix: correct the training configuration"),
        ("codec_id = 9", "codec_id = 9\nversion = 0", "version is 0; allowed: 1 to 999999999"),
        ("levels = [16, 64]", "levels = [0, 16, 64]", r"levels are \[0, 16, 64\]; allowed: ascending whole numbers of symbols from 1 on"),
        ("levels = [16, 64]", "levels = [57, 64]", r"levels are \[57, 64\], of \[8, 8\] bytes; allowed: a length of its own for each"),
        ("levels = [16, 64]", "levels = []", "there are 0 levels; allowed: 1 to 16"),
        ('name = "tiny"', 'name = ""', "name is ''; allowed: a letter or digit, and behind it no slash"),
        ('name = "tiny"', 'name = "a/b"', "name is 'a/b'"),
        ("codec_id = 9", "codec_id = 9\nblind_ber = 0", "blind_ber is 0.0; allowed: above 0"),
        ("[encoder]", "[channel]\nber_max = 0.7\n[encoder]", "BER range is 0.0 to 0.7; allowed: within 0 to 0.5"),
        ("levels = [16, 64]", "levels = 64", "levels is 64; allowed: a list"),
        ("height = 8", "heigth = 8", "key 'heigth' is 8; allowed: one of height"),
        ("height = 8\n", "", "key 'height' is 'missing'"),
        ('kind = "conv"', "kind = 3", "kind is 3"),
        ("[encoder]", "[encoder", "is not TOML"),
        ("[encoder]", "[training]\noptimizer = 'sgd'\n[encoder]", "training.optimizer is 'sgd'; allowed: adamw, muon"),
        ("[encoder]", "[training]\nbatch = 0\n[encoder]", "training.batch is 0; allowed: 1 or more"),
        ("[encoder]", "[training]\nviews = 0\n[encoder]", "training.views is 0; allowed: 1 or more"),
        ("[encoder]", "[training]\nvalidation = 0\n[encoder]", "training.validation is 0; allowed: 1 or more"),
        ("[encoder]", "[training]\ntail_epochs = -1\n[encoder]", "training.tail_epochs is -1; allowed: 0 or more"),
        ("[encoder]", "[teacher]\nepochs = 0\n[encoder]", "teacher.epochs is 0; allowed: 1 or more"),
        ("[encoder]", "[training]\ninteger_epochs = 0\n[encoder]", "training.integer_epochs is 0; allowed: 1 or more"),
        ("[encoder]", "[channel]\nber_min = 0\n[encoder]", "ber_min is 0.0; allowed: above 0, at most ber_max, 0.25"),
        ("[encoder]", "[channel]\nber_min = 0.3\n[encoder]", "ber_min is 0.3; allowed: above 0, at most ber_max, 0.25"),
        ("[encoder]", "[channel]\nerasure_max = 1.5\n[encoder]", "erasure_max is 1.5; allowed: 0 to 1"),
        ("[encoder]", "[channel]\nburst_bits = 0.5\n[encoder]", "burst_bits is 0.5; allowed: 1 or more"),
        ("[encoder]", "[channel]\nburst_bits = 1.5\n[encoder]", r"burst_bits is 1.5; allowed: 1 / \(1 - 2 ber_max\) and more: ber_max is 0.25"),
        ("[encoder]", "[channel]\nsnr_db = [7.0]\n[encoder]", r"snr_db is \[7.0\]; allowed: two numbers in dB, or none"),
        ("[encoder]", "[channel]\nsnr_db = [nan, 1.0]\n[encoder]", r"snr_db is \[nan, 1.0\]"),
        ("codec_id = 9", "codec_id = 9\ntask = 'a.b'", "codec.task is 'a.b'; allowed: a name without a dot"),
        ("codec_id = 9", "codec_id = 9\ntask = ''", "codec.task is ''"),
        ("[encoder]", "[training]\ndistil = 70\n[encoder]", "training.distil is 70.0; allowed: 0 to 1"),
        ("[encoder]", "[training]\nlabel_smoothing = -0.1\n[encoder]", "training.label_smoothing is -0.1; allowed: 0 to 1"),
        ("[encoder]", "[training]\nteacher_temperature = 0\n[encoder]", "training.teacher_temperature is 0.0; allowed: above 0"),
        ("[encoder]", "[training]\nweight_decay = -50\n[encoder]", "training.weight_decay is -50.0; allowed: 0 or more"),
        ("[encoder]", "[training]\nprobe = inf\n[encoder]", "training.probe is inf; allowed: 0 or more"),
        ("[encoder]", "[training]\nlearning_rate = nan\n[encoder]", "training.learning_rate is nan; allowed: above 0"),
        ("[encoder]", "[training]\nseed = 4294967296\n[encoder]", "training.seed is 4294967296; allowed: 0 to 4294967295"),
        ("[encoder]", "[teacher]\nwidths = [16, 0, 16]\n[encoder]", "teacher.widths is 0; allowed: 1 or more"),
        ("[encoder]", "[teacher]\nmomentum = 1.0\n[encoder]", "teacher.momentum is 1.0; allowed: 0 to below 1"),
        ("[encoder]", "[edge]\nwidth = 0\n[encoder]", "edge.width is 0; allowed: 1 or more"),
        ("[encoder]", "[edge]\nblocks = -1\n[encoder]", "edge.blocks is -1; allowed: 0 or more"),
        ("[encoder]", "[edge]\ndropout = 2\n[encoder]", "edge.dropout is 2.0; allowed: 0 to below 1"),
        ("stem_channels = 8", "stem_channels = 8\nstem_stride = 0", "encoder.stem_stride is 0; allowed: 1 or more"),
        ("channels = 8 }", "channels = 0 }", "encoder.blocks.channels is 0; allowed: 1 or more"),
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path, old, new, message):
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


@pytest.mark.parametrize("name", ["*", "cifar10*", "**", "/nowhere/cifar10"])
def test_a_name_is_no_pattern(name):
    with pytest.raises(NotFound, match="there is no training configuration"):
        load_config(name)


def test_an_unknown_name_lists_ours():
    with pytest.raises(NotFound, match="cifar10, .*cifar10_three_levels, .*digits"):
        load_config("cifar")


def test_a_file_that_is_not_utf_8_is_refused_by_name(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_bytes(GOOD.replace("tiny", "t\xefny").encode("latin-1"))
    with pytest.raises(ConfigError, match="tiny.toml cannot be read .*; allowed: a TOML file in UTF-8"):
        load_config(str(path))


def test_a_configuration_extends_another_key_by_key(tmp_path):
    (tmp_path / "tiny.toml").write_text(GOOD)
    (tmp_path / "variant.toml").write_text(f'extends = "{tmp_path}/tiny.toml"\n[codec]\nname = "variant"\n[training]\ndistil = 0.0\n')
    tiny, variant = (load_config(str(tmp_path / f"{name}.toml")) for name in ("tiny", "variant"))
    assert variant.codec.name == "variant" and variant.training.distil == 0.0
    assert (variant.codec.levels, variant.encoder) == (tiny.codec.levels, tiny.encoder)


def test_a_configuration_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(f'extends = "{path}"\n' + GOOD)
    with pytest.raises(ConfigError, match="tiny.toml: extends is"):
        load_config(str(path))


def test_an_unknown_family_is_refused(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD.replace("codec_id = 9", 'codec_id = 9\nfamily = "strong"'))
    with pytest.raises(ConfigError, match="family is 'strong'; allowed: weaklink, semanticnn, "):
        load_config(str(path))
