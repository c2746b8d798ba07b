{{/*
The objects of the values pools, announcements and peers, for the controller, which makes
them as soon as the API server knows the kinds. Helm itself could not, at the first
install. With the annotations a Helm that goes back to version 0.1.0 takes them over.
*/}}
{{- define "fairlead.declared" }}
{{- range $kind, $list := dict "AddressPool" .Values.pools "Announcement" .Values.announcements "BGPPeer" .Values.peers }}
{{- range $list }}
---
apiVersion: fairlead.io/v1alpha1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  labels:
    {{- include "fairlead.labels" $ | nindent 4 }}
    fairlead.io/declared: "true"
  annotations:
    helm.sh/resource-policy: keep
    meta.helm.sh/release-name: {{ $.Release.Name }}
    meta.helm.sh/release-namespace: {{ $.Release.Namespace }}
spec:
  {{- toYaml (omit . "name") | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
