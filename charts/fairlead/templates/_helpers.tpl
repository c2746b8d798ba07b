{{/* The prefix of object names: the release's name if it contains the chart's. */}}
{{- define "fairlead.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: what selectors use. */}}
{{- define "fairlead.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. By part-of, which no value changes, the commands find the pods. */}}
{{- define "fairlead.labels" -}}
{{ include "fairlead.selectorLabels" . }}
app.kubernetes.io/part-of: fairlead
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without the chart's version, which would restart them for nothing. */}}
{{- define "fairlead.podLabels" -}}
{{ include "fairlead.selectorLabels" . }}
app.kubernetes.io/part-of: fairlead
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fairlead.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
URLs of API servers, beside the ClusterIP of Service kubernetes: what the values say, else
what the cluster shows of them, sorted. Where Helm asks no cluster (helm template,
kustomize, GitOps) there is no URL here. Agents and controllers then try the other
addresses that docs/install.md lists.
*/}}
{{- define "fairlead.apiServers" -}}
{{- $urls := .Values.api.servers | default list }}
{{- with .Values.api.host }}
{{- $urls = prepend $urls (printf (ternary "https://[%s]:%d" "https://%s:%d" (contains ":" .)) . (int $.Values.api.port)) }}
{{- end }}
{{- if not $urls }}
{{- with lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" }}
{{- $form := ternary "https://[%s]:%d" "https://%s:%d" (eq .addressType "IPv6") }}
{{- $port := 0 }}
{{- range .ports }}{{ if or (eq .name "https") (not $port) }}{{ $port = int .port }}{{ end }}{{ end }}
{{- range .endpoints }}
{{- $urls = append $urls (printf $form (first .addresses) $port) }}
{{- end }}
{{- $urls = sortAlpha $urls }}
{{- end }}
{{- end }}
{{- join "," ($urls | uniq) }}
{{- end -}}

{{/* Of all commands. */}}
{{- define "fairlead.serversArg" -}}
{{- with include "fairlead.apiServers" . }}
- --api-servers={{ . }}
{{- end }}
{{- end -}}

{{/* Flags that the controller and the agent have in common. */}}
{{- define "fairlead.commonArgs" -}}
{{- include "fairlead.serversArg" . }}
- --log-level={{ .Values.logLevel }}
{{- end -}}

{{/* Annotations of a pod by which scrapers find it. Call with a dict: root, port, scheme. */}}
{{- define "fairlead.scrapeAnnotations" -}}
{{- with .root.Values.metrics }}
{{- if and .scrapeAnnotations (not .serviceMonitor.enabled) -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ $.port | quote }}
prometheus.io/path: /metrics
prometheus.io/scheme: {{ $.scheme }}
{{- end }}
{{- end }}
{{- end -}}
