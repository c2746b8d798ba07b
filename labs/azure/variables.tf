variable "variant" {
  description = "How the network learns where an address is: overlay-l2 (a VXLAN between the VMs, ARP), overlay-bgp (the same, BGP to the router VM), or route-server (no overlay, BGP to Azure Route Server)."
  type        = string
  default     = "overlay-l2"

  validation {
    condition     = contains(["overlay-l2", "overlay-bgp", "route-server"], var.variant)
    error_message = "The variant is overlay-l2, overlay-bgp or route-server."
  }
}

variable "ssh_public_key" {
  description = "Who may log in, as the user lab."
  type        = string
}

variable "ssh_from" {
  description = "CIDRs that may reach the router VM by SSH over a public address, and the others through it. None: it has no public address."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for c in var.ssh_from : can(cidrhost(c, 0)) && tonumber(split("/", c)[1]) >= 8])
    error_message = "CIDRs of your own, such as 198.51.100.7/32; not the whole Internet."
  }
}

variable "prefix" {
  description = "Begins the name of everything."
  type        = string
  default     = "fairlead-lab"
}

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "vm_size" {
  description = "Size of every VM. kubeadm wants two processors."
  type        = string
  default     = "Standard_B2s"
}

variable "kubernetes" {
  description = "Minor version of the control plane."
  type        = string
  default     = "1.36"
}

variable "kubelet" {
  description = "Minor version of the kubelets; up to three older than the control plane. Empty: the same."
  type        = string
  default     = ""
}

variable "chart" {
  description = "Where the nodes find the chart: an oci:// address, or the URL of an archive."
  type        = string
  default     = "oci://ghcr.io/fairlead/charts/fairlead"
}

variable "image" {
  description = "Repository of fairlead's image. Empty: the chart's."
  type        = string
  default     = ""
}

variable "image_tag" {
  description = "Tag of it. Empty: the chart's."
  type        = string
  default     = ""
}

variable "vnet_cidr" {
  description = "The virtual network."
  type        = string
  default     = "10.60.0.0/16"
}

variable "overlay_cidr" {
  description = "The LAN inside the VXLAN, a /24. With overlay-l2 it has the addresses for Services, .200 to .239."
  type        = string
  default     = "10.61.0.0/24"
}

variable "routed_cidr" {
  description = "Addresses for Services that BGP leads to, a /24 of no network."
  type        = string
  default     = "10.62.0.0/24"
}

variable "pods_cidr" {
  description = "The pods' addresses, a /16; a /24 of it for each node."
  type        = string
  default     = "10.244.0.0/16"
}
