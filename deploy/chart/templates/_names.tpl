{{/* The name of every object, with at most 54 characters: "-headless" still fits into the 63 of a name. */}}
{{- define "hypersender-grpc.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 54 | trimSuffix "-" -}}
{{- end }}

{{/* The labels that select the pods. They never change, because a Deployment cannot change its selector. */}}
{{- define "hypersender-grpc.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hypersender-grpc.labels" -}}
{{ include "hypersender-grpc.selectorLabels" . }}
{{ include "hypersender-grpc.commonLabels" . }}
{{- end }}

{{- define "hypersender-grpc.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "hypersender-grpc.serviceAccountName" -}}
{{- $name := ternary (include "hypersender-grpc.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $name .Values.serviceAccount.name -}}
{{- end }}

{{- define "hypersender-grpc.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}
