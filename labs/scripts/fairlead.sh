#!/bin/sh
# Installs fairlead by its chart, or upgrades it. May be run again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${CONTROL_PLANE:?the address of the control plane}"
: "${CHART:?folder, archive or oci:// address of the chart}"
export KUBECONFIG="${KUBECONFIG:-/etc/kubernetes/admin.conf}"
helm_version=${HELM_VERSION:-v3.18.6}

if ! command -v helm >/dev/null; then
	arch=$(dpkg --print-architecture)
	file=helm-$helm_version-linux-$arch.tar.gz
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	(
		cd "$dir"
		curl -fsSLO "https://get.helm.sh/$file"
		curl -fsSLO "https://get.helm.sh/$file.sha256sum"
		sha256sum -c "$file.sha256sum"
		tar -xzf "$file" "linux-$arch/helm"
		install -m 755 "linux-$arch/helm" /usr/local/bin/helm
	)
fi

kubectl apply -f - <<END
apiVersion: v1
kind: Namespace
metadata:
  name: fairlead-system
  labels: {pod-security.kubernetes.io/enforce: privileged}
END
# An API server before 1.33 does not say which addresses are Services'.
set -- --namespace fairlead-system --set "api.host=$CONTROL_PLANE" --set "api.port=${API_PORT:-6443}" \
	--set "agent.serviceCIDRs={${SERVICE_CIDR:-10.96.0.0/16}}" \
	--set "agent.detectLocal=${DETECT_LOCAL:-bridge=cni0}" # the bridge that pod-network.sh makes
[ -z "${IMAGE:-}" ] || set -- "$@" --set "image.repository=$IMAGE"
[ -z "${IMAGE_TAG:-}" ] || set -- "$@" --set "image.tag=$IMAGE_TAG"
[ -z "${CHART_VALUES:-}" ] || set -- "$@" --values "$CHART_VALUES"
helm upgrade --install fairlead "$CHART" "$@"
