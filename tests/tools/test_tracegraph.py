"""The graph of paths: what is one node, and an order in which few edges cross."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rawkit.tools.tracegraph import GraphEdge, GraphNode, TraceGraph, flow_list, path_graph
from rawkit.tools.traceresult import TracePath


def path(flow: int, *addresses: str | None) -> TracePath:
    return TracePath(flow, 40000 + flow, 1, addresses, True, None)


def test_silent_routers_are_one_where_they_come_from_one() -> None:
    graph = path_graph("me", [path(1, "a", None, "c"), path(2, "a", None, "d"), path(3, "b", None, "d")], [])
    assert [(node.hop, node.address) for node in graph.nodes] == [
        (0, "me"), (1, "a"), (1, "b"), (2, None), (2, None), (3, "c"), (3, "d"),
    ]  # fmt: skip
    assert {edge.flows for edge in graph.edges if edge.near == "me"} == {(1, 2), (3,)}


def test_a_loop_is_drawn_as_it_was_seen() -> None:
    graph = path_graph("me", [path(1, "a", "b", "a")], [])
    assert [(node.hop, node.address) for node in graph.nodes] == [(0, "me"), (1, "a"), (2, "b"), (3, "a")]


def test_edges_that_need_not_cross_do_not() -> None:
    names = ("a", "b", "c")
    nodes = [GraphNode("me", 0, "me", "source", ("me",))]
    nodes += [GraphNode(f"1{name}", 1, name, "hop", (name,)) for name in names]
    nodes += [GraphNode(f"2{name}", 2, name, "hop", (name,)) for name in reversed(names)]
    edges = [GraphEdge("me", f"1{name}", (i,)) for i, name in enumerate(names)]
    edges += [GraphEdge(f"1{name}", f"2{name}", (i,)) for i, name in enumerate(names)]
    root = ElementTree.fromstring(TraceGraph(tuple(nodes), tuple(edges)).to_svg())
    lines = [element for element in root.iter() if element.tag.endswith("line")]
    assert all(line.get("x1") == line.get("x2") for line in lines[3:])


def test_what_routers_call_themselves_is_text() -> None:
    name = 'x"\\<&>'
    graph = TraceGraph((GraphNode(name, 0, name, "source", (name,)),), ())
    texts = [element.text for element in ElementTree.fromstring(graph.to_svg()).iter() if element.text]
    assert texts.count(name) == 2
    assert re.search(r'"x\\"\\\\<&>" \[label="x\\"\\\\<&>"', graph.to_dot())


def test_flow_list() -> None:
    assert flow_list([1, 2, 3, 7]) == "flows 1-3, 7"
    assert flow_list([5]) == "flow 5"
