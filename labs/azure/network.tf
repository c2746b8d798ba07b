resource "azurerm_resource_group" "lab" {
  name     = var.prefix
  location = var.location
}

resource "azurerm_virtual_network" "lab" {
  name                = var.prefix
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name
  address_space       = [var.vnet_cidr]
}

resource "azurerm_subnet" "machines" {
  name                 = "machines"
  resource_group_name  = azurerm_resource_group.lab.name
  virtual_network_name = azurerm_virtual_network.lab.name
  address_prefixes     = [local.machines_cidr]
}

resource "azurerm_subnet" "clients" {
  name                 = "clients"
  resource_group_name  = azurerm_resource_group.lab.name
  virtual_network_name = azurerm_virtual_network.lab.name
  address_prefixes     = [local.clients_cidr]
}

# Nothing in the lab has a way out by itself: packages and images come through this.
resource "azurerm_public_ip" "nat" {
  name                = "${var.prefix}-nat"
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name
  allocation_method   = "Static"
  sku                 = "Standard"
}

resource "azurerm_nat_gateway" "lab" {
  name                = var.prefix
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name
  sku_name            = "Standard"
}

resource "azurerm_nat_gateway_public_ip_association" "lab" {
  nat_gateway_id       = azurerm_nat_gateway.lab.id
  public_ip_address_id = azurerm_public_ip.nat.id
}

resource "azurerm_subnet_nat_gateway_association" "lab" {
  for_each       = { machines = azurerm_subnet.machines.id, clients = azurerm_subnet.clients.id }
  subnet_id      = each.value
  nat_gateway_id = azurerm_nat_gateway.lab.id
}

# What is not named here is for the virtual network alone: Azure's own last rule
# denies everything else.
resource "azurerm_network_security_group" "lab" {
  name                = var.prefix
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name

  # Addresses for Services are in no network that Azure's rules know.
  security_rule {
    name                       = "services"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "*"
    source_address_prefix      = var.vnet_cidr
    source_port_range          = "*"
    destination_address_prefix = local.vips_in
    destination_port_range     = "*"
  }

  # Pods, where no overlay hides them.
  security_rule {
    name                       = "pods"
    priority                   = 110
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "*"
    source_address_prefixes    = [var.vnet_cidr, var.pods_cidr]
    source_port_range          = "*"
    destination_address_prefix = var.pods_cidr
    destination_port_range     = "*"
  }

  dynamic "security_rule" {
    for_each = length(var.ssh_from) > 0 ? [1] : []
    content {
      name                       = "ssh"
      priority                   = 200
      direction                  = "Inbound"
      access                     = "Allow"
      protocol                   = "Tcp"
      source_address_prefixes    = var.ssh_from
      source_port_range          = "*"
      destination_address_prefix = local.underlay["router"]
      destination_port_range     = "22"
    }
  }
}

resource "azurerm_subnet_network_security_group_association" "lab" {
  for_each                  = { machines = azurerm_subnet.machines.id, clients = azurerm_subnet.clients.id }
  subnet_id                 = each.value
  network_security_group_id = azurerm_network_security_group.lab.id
}
