# The scripts of labs/scripts as they are, with their settings.
locals {
  folder = "/usr/local/lib/fairlead-lab"

  unit = {
    for name, scripts in local.always : name => join("\n", concat([
      "[Unit]",
      "Description=The links and routes of the lab",
      "After=network-online.target",
      "Wants=network-online.target",
      "Before=kubelet.service",
      "[Service]",
      "Type=oneshot",
      "RemainAfterExit=yes",
      ], [for script in scripts : "ExecStart=${local.folder}/${script}"], [
      "[Install]",
      "WantedBy=multi-user.target",
      "",
    ]))
  }

  cloud_init = {
    for name, settings in local.settings : name => "#cloud-config\n${yamlencode({
      write_files = concat([
        {
          path        = "/etc/fairlead-lab.env"
          permissions = "0600"
          content     = join("", [for key, value in settings : "${key}='${value}'\n"])
        },
        {
          path        = "/etc/systemd/system/fairlead-lab.service"
          permissions = "0644"
          content     = local.unit[name]
        },
        {
          path        = "${local.folder}/web.yaml"
          permissions = "0644"
          content     = file("${path.module}/../web.yaml")
        },
        ], [for script in concat(local.always[name], local.once[name]) : {
          path        = "${local.folder}/${script}"
          permissions = "0755"
          content     = file("${path.module}/../scripts/${script}")
      }])
      # kubernetes.sh needs the network that the first ones make.
      runcmd = concat(
        length(local.always[name]) == 0 ? [] : [["systemctl", "enable", "--now", "fairlead-lab.service"]],
        [for script in local.once[name] : ["${local.folder}/${script}"]],
      )
    })}"
  }
}
