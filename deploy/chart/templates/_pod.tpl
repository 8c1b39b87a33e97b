{{- define "hypersender-grpc.containerPorts" -}}
- name: grpc
  containerPort: {{ .Values.ports.grpc }}
{{- if .Values.admin.enabled }}
- name: admin
  containerPort: {{ .Values.ports.admin }}
{{- end }}
{{- if .Values.avatars.enabled }}
- name: avatars
  containerPort: {{ .Values.ports.avatars }}
{{- end }}
{{- end }}

{{/*
The gRPC probes of the kubelet speak no TLS in most clusters, so that with TLS the probes go to the admin
port. A probe never depends on Hypersender or on the store (rule 29).
*/}}
{{- define "hypersender-grpc.probes" -}}
{{- $port := int .Values.ports.grpc -}}
{{- $live := dict "grpc" (dict "port" $port "service" "") -}}
{{- $ready := dict "grpc" (dict "port" $port "service" "hypersender.contact.v1.ContactService") -}}
{{- if .Values.tls.existingSecret -}}
{{- $live = dict "httpGet" (dict "port" "admin" "path" "/livez") -}}
{{- $ready = dict "httpGet" (dict "port" "admin" "path" "/readyz") -}}
{{- end -}}
# It ends as soon as the port is open. A damaged file store may take some seconds to be moved aside.
startupProbe:
  {{- toYaml $ready | nindent 2 }}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
# Replaces a process that hangs.
livenessProbe:
  {{- toYaml $live | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
# Fails from SIGTERM on. Two failures take at most 4 s, which is less than any drain.waitSeconds, so that a
# load balancer with these settings notices in time too.
readinessProbe:
  {{- toYaml $ready | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "hypersender-grpc.scheduling" -}}
topologySpreadConstraints:
  {{- $selector := include "hypersender-grpc.selectorLabels" . | fromYaml }}
  {{- $constraints := .Values.topologySpreadConstraints }}
  {{- if kindIs "invalid" $constraints }}
  {{- /* Without pod-template-hash, the pods that a rollout removes would be counted too. */}}
  {{- $keys := list "pod-template-hash" }}
  {{- $common := dict "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" $keys }}
  {{- $constraints = list }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  {{- $constraints = append $constraints (merge (dict "topologyKey" .) $common) }}
  {{- end }}
  {{- end }}
  {{- range $constraints }}
  - {{- merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $selector)) | toYaml | nindent 4 }}
  {{- else }} []
  {{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
