"""Names of nodes."""

from gaptune.engine.nodes import names_of


def node(number, name="", host="box"):
    address = f"10.0.0.{number}"
    return {
        "NodeID": f"id{number:06d}",
        "NodeName": name or address,
        "NodeManagerAddress": address,
        "NodeManagerHostname": host,
    }


def test_a_node_has_the_name_that_ray_was_given_or_its_host_name():
    assert names_of([node(1, "spot-1"), node(2)]) == {"id000001": "spot-1", "id000002": "box"}


def test_nodes_of_one_name_show_the_end_of_their_id():
    assert set(names_of([node(1), node(2), node(3, host="other")]).values()) == {"box#000001", "box#000002", "other"}
