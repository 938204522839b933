"""The fields of KubeRay's resources by its API reference and Go types, and standard resources by Kubernetes' schemas.

Its published schema is made from those types; it is megabytes long, since it repeats Kubernetes' own for each pod.
"""

import kubernetes_validate

VERSION = "1.31"
TEXTS = dict[str, str]
SPECS = {
    "RayJobSpec": {
        "entrypoint": str,
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "submissionMode": str,
        "runtimeEnvYAML": str,
        "suspend": bool,
        "rayClusterSpec": "RayClusterSpec",
    },
    "RayClusterSpec": {
        "rayVersion": str,
        "authOptions": "AuthOptions",
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": "AutoscalerOptions",
        "headGroupSpec": "HeadGroupSpec",
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"mode": {"disabled", "token"}, "secretName": str},
    "AutoscalerOptions": {
        "version": {"v1", "v2"},
        "idleTimeoutSeconds": int,
        "upscalingMode": {"Default", "Aggressive", "Conservative"},
        "resources": dict,
    },
    "HeadGroupSpec": {"rayStartParams": TEXTS, "serviceType": str, "template": "PodTemplate"},
    "WorkerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "idleTimeoutSeconds": int,
        "numOfHosts": int,
        "rayStartParams": TEXTS,
        "template": "PodTemplate",
    },
}
"""The type of each field: a Python type, allowed words, another spec by name, or a list of those."""
REQUIRED = {
    "RayClusterSpec": {"headGroupSpec"},
    "HeadGroupSpec": {"rayStartParams", "template"},
    "WorkerGroupSpec": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}


def check(resource):
    """Fails for a resource that an API server would refuse, or whose fields it would drop."""
    if resource["apiVersion"] == "ray.io/v1":
        assert resource["kind"] == "RayJob"
        assert resource.keys() == {"apiVersion", "kind", "metadata", "spec"}
        _check_spec(resource["spec"], "RayJobSpec", "spec")
    else:
        kubernetes_validate.validate(resource, VERSION, strict=True)


def _check_spec(value, kind, where):
    if kind == "PodTemplate":
        pods = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pods"}, "template": value}
        kubernetes_validate.validate(pods, VERSION, strict=True)
    elif kind == TEXTS:
        assert all(isinstance(one, str) for one in value.values()), f"{where}: expected texts"
    elif isinstance(kind, set):
        assert value in kind, f"{where}: {value} is none of {kind}"
    elif isinstance(kind, list):
        for number, one in enumerate(value):
            _check_spec(one, kind[0], f"{where}.{number}")
    elif isinstance(kind, str):
        missing = REQUIRED.get(kind, set()) - value.keys()
        assert not missing, f"{where}: {sorted(missing)} missing"
        for name, one in value.items():
            assert name in SPECS[kind], f"{where}.{name}: no such field"
            _check_spec(one, SPECS[kind][name], f"{where}.{name}")
    else:
        assert type(value) is kind, f"{where}: expected {kind.__name__}"
