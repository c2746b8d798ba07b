{{/* The container of a pod that only talks to the API server. Call it with a list: the root, its name, its arguments. */}}
{{- define "fairlead.helper" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "fairlead.fullname" $root }}-{{ index . 1 }}
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.controller.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.controller.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: {{ index . 1 }}
    image: {{ include "fairlead.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: [/fairlead]
    args:
      {{- toYaml (index . 2) | nindent 6 }}
    env:
      - name: POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      - name: POD_NAMESPACE
        valueFrom:
          fieldRef:
            fieldPath: metadata.namespace
      {{- with include "fairlead.apiEnv" $root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
    resources:
      requests:
        cpu: 10m
        memory: 32Mi
      limits:
        memory: 256Mi
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
{{- end -}}

{{- define "fairlead.uninstallMeta" }}
  labels:
    {{- include "fairlead.labels" . | nindent 4 }}
    app.kubernetes.io/component: uninstall
  annotations:
    helm.sh/hook: post-delete
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "fairlead.testMeta" }}
  labels:
    {{- include "fairlead.labels" . | nindent 4 }}
    app.kubernetes.io/component: test
  annotations:
    helm.sh/hook: test
{{- end }}

{{- define "fairlead.seedMeta" }}
  labels:
    {{- include "fairlead.labels" . | nindent 4 }}
    app.kubernetes.io/component: seed
  annotations:
    helm.sh/hook: post-install,post-upgrade
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The objects of the values pools, announcements and peers. */}}
{{- define "fairlead.pools" }}
{{- range $kind, $list := dict "AddressPool" .Values.pools "Announcement" .Values.announcements "BGPPeer" .Values.peers }}
{{- range $list }}
---
apiVersion: fairlead.io/v1alpha1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  labels:
    {{- include "fairlead.labels" $ | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
    meta.helm.sh/release-name: {{ $.Release.Name }}
    meta.helm.sh/release-namespace: {{ $.Release.Namespace }}
spec:
  {{- toYaml (omit . "name") | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
