resource "azurerm_public_ip" "ssh" {
  count               = length(var.ssh_from) > 0 ? 1 : 0
  name                = "${var.prefix}-ssh"
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name
  allocation_method   = "Static"
  sku                 = "Standard"
}

resource "azurerm_network_interface" "machine" {
  for_each            = local.underlay
  name                = "${var.prefix}-${each.key}"
  location            = azurerm_resource_group.lab.location
  resource_group_name = azurerm_resource_group.lab.name

  # Or Azure drops what comes from, or is for, an address that is not the card's: pods,
  # addresses for Services, and whatever the router forwards.
  ip_forwarding_enabled = each.key != "client"

  ip_configuration {
    name                          = "own"
    subnet_id                     = each.key == "client" ? azurerm_subnet.clients.id : azurerm_subnet.machines.id
    private_ip_address_allocation = "Static"
    private_ip_address            = each.value
    public_ip_address_id          = each.key == "router" && length(var.ssh_from) > 0 ? azurerm_public_ip.ssh[0].id : null
  }
}

resource "azurerm_linux_virtual_machine" "machine" {
  for_each              = local.underlay
  name                  = each.key
  computer_name         = each.key
  location              = azurerm_resource_group.lab.location
  resource_group_name   = azurerm_resource_group.lab.name
  size                  = var.vm_size
  network_interface_ids = [azurerm_network_interface.machine[each.key].id]
  custom_data           = base64encode(local.cloud_init[each.key])
  admin_username        = "lab"

  disable_password_authentication = true
  admin_ssh_key {
    username   = "lab"
    public_key = var.ssh_public_key
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  source_image_reference {
    publisher = "Canonical"
    offer     = "ubuntu-24_04-lts"
    sku       = "server"
    version   = "latest"
  }

  boot_diagnostics {} # the serial console, for those who let nobody in by SSH

  depends_on = [azurerm_nat_gateway_public_ip_association.lab, azurerm_subnet_nat_gateway_association.lab]
}
