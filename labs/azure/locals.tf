# Who has which address, and what each machine is told.
locals {
  overlay = startswith(var.variant, "overlay")
  bgp     = var.variant != "overlay-l2"

  machines_cidr = cidrsubnet(var.vnet_cidr, 8, 0)
  clients_cidr  = cidrsubnet(var.vnet_cidr, 8, 1)
  routers_cidr  = cidrsubnet(var.vnet_cidr, 10, 8) # Azure Route Server wants a /26 of its own

  # Azure keeps the first four addresses of a subnet.
  numbers  = { router = 9, node1 = 11, node2 = 12, node3 = 13 }
  nodes    = [for name in sort(keys(local.numbers)) : name if name != "router"]
  underlay = merge({ for name, n in local.numbers : name => cidrhost(local.machines_cidr, n) }, { client = cidrhost(local.clients_cidr, 10) })
  lan      = { for name, n in local.numbers : name => local.overlay ? cidrhost(var.overlay_cidr, n) : local.underlay[name] }
  pods     = { for i, name in local.nodes : name => cidrsubnet(var.pods_cidr, 8, i + 1) }

  vips_in   = local.bgp ? var.routed_cidr : var.overlay_cidr
  first_vip = cidrhost(local.vips_in, 200)
  vips      = "${local.first_vip}-${cidrhost(local.vips_in, 239)}"

  # Route Server has two instances, and every node needs a session with each.
  bgp_peers = local.overlay ? "router=${local.lan["router"]}" : join(" ", [for i, ip in azurerm_route_server.lab[0].virtual_router_ips : "route-server-${i + 1}=${ip}"])

  common = {
    ANNOUNCE      = local.bgp ? "bgp" : "l2"
    NODES         = join(" ", [for name in local.nodes : "${name}=${local.lan[name]}=${local.pods[name]}"])
    PEERS         = join(" ", [for name in sort(keys(local.numbers)) : local.underlay[name]])
    ROUTER        = local.lan["router"]
    CONTROL_PLANE = local.lan["node1"]
    KUBERNETES    = var.kubernetes
    KUBELET       = coalesce(var.kubelet, var.kubernetes)
    JOIN_TOKEN    = "${random_string.token_id.result}.${random_password.token_secret.result}"
    VIPS          = local.vips
    CHART         = var.chart
    IMAGE         = var.image
    IMAGE_TAG     = var.image_tag
    WEB           = "${local.folder}/web.yaml"
    # Without an overlay the fabric itself leads to the pods, by routes.tf.
    POD_ROUTES = local.overlay ? "nodes" : "fabric"
    # What answers ARP for the clients' network on the LAN is the router.
    ROUTES     = local.overlay ? "${local.clients_cidr}=${local.lan["router"]}" : ""
    BGP_PEERS  = local.bgp ? local.bgp_peers : ""
    ROUTER_ASN = local.overlay ? 64501 : 65515
    # Route Server does not speak BFD, and is nobody's neighbour.
    BGP_PEER_MORE = local.overlay ? "" : "ebgpMultihop: 4, holdTime: 9s, keepaliveTime: 3s"
  }

  settings = merge({
    client = {
      URL      = "http://${local.first_vip}/hostname"
      PATIENCE = 1800
    }
    }, {
    for name, address in local.lan : name => merge(local.common, {
      NODE     = name
      ADDRESS  = address
      UNDERLAY = local.underlay[name]
      OVERLAY  = local.overlay ? "${address}/24" : ""
    })
  })

  # always: again at every start of the machine, as links and routes do not last.
  always = {
    for name, ip in local.underlay : name => name == "client" ? [] : concat(
      local.overlay ? ["overlay.sh"] : [],
      name == "router" ? ["router.sh"] : ["pod-network.sh"],
    )
  }
  once = {
    for name, ip in local.underlay : name => (
      name == "client" ? ["client.sh"] :
      name == "router" ? [] :
      name == "node1" ? ["kubernetes.sh", "control-plane.sh", "fairlead.sh", "cluster.sh"] : ["kubernetes.sh", "join.sh"]
    )
  }
}

resource "random_string" "token_id" {
  length  = 6
  upper   = false
  special = false
}

resource "random_password" "token_secret" {
  length  = 16
  upper   = false
  special = false
}
