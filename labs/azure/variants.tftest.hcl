# Plans of each variant without an account: "terraform test" (1.7 or later).
mock_provider "azurerm" {}
mock_provider "random" {}

variables {
  # Nobody has the private half of this key.
  ssh_public_key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFOaC1iL6QzDtaTAO8S/cgU2Khg2Yjyv+eZkok/Gfhkz0NFUhsE065qttv7zmxEHw9wo7U/P5v3KKWd2OherqLgwTJPSDG/VQgcvmX7x9CULqd2PKWSMV1PcNSogoTxIbZwzPtc4ZAPjEZmBnebax/euhdpH935JervOw6Dd8Zwiu5eRKxqCGYEAvvqvjmw3QHBCe1mPVZlHqv6JppFPpLNuH4PxVBlY82hfxpyii65KMZkhamZd6fjJ08ZmRVImALKk9xF9kVgIfIH47EnciDk5Q94qoA+geNRWalQ0EQD14pymjq2h0FGHEuPtRF3WDHu4hMoRf4Ppvf3b/5+DFx"
}

run "overlay_with_arp" {
  command = plan

  variables {
    variant = "overlay-l2"
  }
  assert {
    condition     = alltrue([for name, card in azurerm_network_interface.machine : card.ip_forwarding_enabled == (name != "client")])
    error_message = "Cards of nodes and router must forward, or Azure drops what pods and Services send."
  }
  assert {
    condition     = length(azurerm_public_ip.ssh) == 0
    error_message = "The router has a public address although nobody is in ssh_from."
  }
  assert {
    condition     = length(azurerm_route_server.lab) == 0
    error_message = "An overlay does not need Azure Route Server."
  }
}

run "overlay_with_bgp" {
  command = plan

  variables {
    variant = "overlay-bgp"
  }
  assert {
    condition     = length(azurerm_route_server.lab) == 0
    error_message = "An overlay does not need Azure Route Server."
  }
}

run "route_server" {
  command = plan

  variables {
    variant = "route-server"
  }
  assert {
    condition     = length(azurerm_route_server_bgp_connection.node) == 3
    error_message = "Route Server needs a session with each of the three nodes."
  }
}

run "ssh_from_one_address" {
  command = plan

  variables {
    ssh_from = ["198.51.100.7/32"]
  }
  assert {
    condition     = length(azurerm_public_ip.ssh) == 1
    error_message = "The router has no public address although somebody is in ssh_from."
  }
}

run "ssh_from_everybody" {
  command = plan

  variables {
    ssh_from = ["0.0.0.0/0"]
  }
  expect_failures = [var.ssh_from]
}
