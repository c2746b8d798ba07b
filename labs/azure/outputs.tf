output "external_ip" {
  description = "The address of the Service web; the VM client asks it as soon as it can: sudo cloud-init status --long there."
  value       = local.first_vip
}

output "ssh" {
  description = "How to log in to the router VM, and through it to the others."
  value       = length(var.ssh_from) > 0 ? "ssh -A lab@${azurerm_public_ip.ssh[0].ip_address}" : "nobody may by SSH; use the serial console, or set ssh_from"
}

output "addresses" {
  description = "The machines' addresses in the virtual network."
  value       = local.underlay
}
