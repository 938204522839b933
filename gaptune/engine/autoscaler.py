"""Whether the Ray cluster that this process has joined starts further nodes by itself."""


def autoscales() -> bool:
    """Whether an autoscaler runs, as Ray itself knows: that of ``ray up``, of KubeRay, or of any other launcher.

    Its first version keeps a report with the kinds of nodes. The monitor of a cluster that does not scale writes one,
    too, in which each node is a kind of its own. The second version only knows nodes by the names that a launcher gave
    them, and no cluster that does not scale has such names. Called also in a process without gaptune, by its source.
    """
    import json
    import time

    import ray
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    try:
        gcs = internal_kv_get_gcs_client()
        kinds = set()
        for _ in range(10):
            report = json.loads(gcs.internal_kv_get(b"__autoscaling_status", None) or "{}").get("autoscaler_report")
            if report:
                kinds = {*report["active_nodes"], *(report["idle_nodes"] or {}), *report["pending_launches"]}
            if kinds or not report:
                break
            time.sleep(0.5)  # the cluster has just started, and its monitor has not seen the head node yet
        if any(not kind.startswith("node_") for kind in kinds):
            return True
        scope = ray._raylet.GCS_AUTOSCALER_STATE_NAMESPACE.encode()
        if gcs.internal_kv_get(ray._raylet.GCS_AUTOSCALER_V2_ENABLED_KEY.encode(), namespace=scope) != b"1":
            return False
        status = GetClusterStatusReply.FromString(gcs.get_cluster_status(timeout_s=5))
        named = any(node.instance_id for node in status.cluster_resource_state.node_states)
        return named and status.autoscaling_state.autoscaler_state_version > 0
    except Exception:  # these parts of Ray are its own, and may change: then nodes that may come are not known
        return False
