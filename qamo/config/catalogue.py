"""Where the evaluation sets of the field lie, as the archives unpack: the default of `eval.catalogue`."""

from __future__ import annotations

CATALOGUE: dict[str, dict[str, str]] = {
    "LA": {
        "audio": "LA/ASVspoof2021_LA_eval/flac",
        "trials": "LA/ASVspoof_LA_cm_protocols/ASVspoof2021.LA.cm.eval.trl.txt",
        "extension": ".flac",
        "keys": "keys/LA/CM/trial_metadata.txt",
        "subset": "eval",
    },
    "DF": {
        "audio": "DF/ASVspoof2021_DF_eval/flac",
        "trials": "DF/ASVspoof_DF_cm_protocols/ASVspoof2021.DF.cm.eval.trl.txt",
        "extension": ".flac",
        "keys": "keys/DF/CM/trial_metadata.txt",
        "subset": "eval",
    },
    "ITW": {
        "audio": "release_in_the_wild",
        "trials": "protocols/in_the_wild.eval.txt",
        "keys": "ood_ds_keys/ITW/meta.csv",
    },
    "FoR": {
        "audio": "for-norm/testing",
        "trials": "protocols/for_norm_test.txt",
        "keys": "ood_ds_keys/FoR/meta.csv",
    },
}
