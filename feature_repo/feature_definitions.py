"""What `feast apply` registers: the objects of feature_views for the offline store under FRESHET_HOME."""

from pathlib import Path

from feast import FeatureStore

from feature_repo.feast_home import feast_settings
from feature_repo.feature_views import define, keep_states
from feature_repo.offline_store import ensure_sources

_features_dir = feast_settings().features_dir
_definitions = define(_features_dir)

(
    user,
    item,
    user_statistics,
    user_profile,
    user_embedding,
    item_statistics,
    item_embedding,
    item_windows,
    session_features,
    ranking_v1,
) = _definitions

if __name__ == "feature_definitions":  # the name Feast loads it by: whoever else imports it makes no file
    ensure_sources(_features_dir)
    keep_states(_definitions, FeatureStore(str(Path(__file__).parent)).list_feature_views())
