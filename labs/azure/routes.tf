# What the fabric has to be told, because it delivers by address and asks nobody.

# With an overlay: that the addresses for Services, and the LAN they are on, are behind
# the router VM.
resource "azurerm_route_table" "clients" {
  name                = "${var.prefix}-clients"
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name

  dynamic "route" {
    for_each = local.overlay ? toset([var.overlay_cidr, local.vips_in]) : toset([])
    content {
      name                   = replace(route.value, "/", "-")
      address_prefix         = route.value
      next_hop_type          = "VirtualAppliance"
      next_hop_in_ip_address = local.underlay["router"]
    }
  }
}

resource "azurerm_subnet_route_table_association" "clients" {
  subnet_id      = azurerm_subnet.clients.id
  route_table_id = azurerm_route_table.clients.id
}

# Without one: which node has which pods. The addresses for Services come from Azure
# Route Server.
resource "azurerm_route_table" "machines" {
  name                = "${var.prefix}-machines"
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name

  dynamic "route" {
    for_each = local.overlay ? {} : local.pods
    content {
      name                   = "pods-${route.key}"
      address_prefix         = route.value
      next_hop_type          = "VirtualAppliance"
      next_hop_in_ip_address = local.underlay[route.key]
    }
  }
}

resource "azurerm_subnet_route_table_association" "machines" {
  subnet_id      = azurerm_subnet.machines.id
  route_table_id = azurerm_route_table.machines.id
}

resource "azurerm_subnet" "routers" {
  count                = local.overlay ? 0 : 1
  name                 = "RouteServerSubnet" # the name is Azure's
  resource_group_name  = azurerm_resource_group.lab.name
  virtual_network_name = azurerm_virtual_network.lab.name
  address_prefixes     = [local.routers_cidr]
}

resource "azurerm_public_ip" "route_server" {
  count               = local.overlay ? 0 : 1
  name                = "${var.prefix}-route-server" # Azure's own access to it
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name
  allocation_method   = "Static"
  sku                 = "Standard"
}

resource "azurerm_route_server" "lab" {
  count                = local.overlay ? 0 : 1
  name                 = var.prefix
  location             = azurerm_resource_group.lab.location
  resource_group_name  = azurerm_resource_group.lab.name
  sku                  = "Standard"
  public_ip_address_id = azurerm_public_ip.route_server[0].id
  subnet_id            = azurerm_subnet.routers[0].id
}

resource "azurerm_route_server_bgp_connection" "node" {
  for_each        = toset(local.overlay ? [] : local.nodes)
  name            = each.value
  route_server_id = azurerm_route_server.lab[0].id
  peer_asn        = 64500
  peer_ip         = local.underlay[each.value]
}
