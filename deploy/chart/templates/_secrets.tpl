{{/*
The Secrets that are mounted at /etc/hypersender-grpc/<name>, as YAML: the Secret, its keys, and the variable
that names the file. `keys: []` mounts all keys.
*/}}
{{- define "hypersender-grpc.secrets" -}}
{{- $values := .Values -}}
{{- with $values.apiKey }}{{ if .existingSecret }}
api-key: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}], variable: HYPERSENDER_WHATSAPP_API_KEY_FILE}
{{- end }}{{ end }}
{{- with $values.upstreamProxyAuth }}{{ if .existingSecret }}
upstream-proxy: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}], variable: HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE}
{{- end }}{{ end }}
{{- with $values.store.password }}{{ if .existingSecret }}
store: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}], variable: HYPERSENDER_GRPC_STORE_PASSWORD_FILE}
{{- end }}{{ end }}
{{- with $values.avatars.key }}{{ if .existingSecret }}
avatars: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}], variable: HYPERSENDER_GRPC_AVATARS_KEY_FILE}
{{- end }}{{ end }}
{{- with $values.instances }}{{ if .existingSecret }}
instances: {secret: {{ .existingSecret }}, keys: []}
{{- end }}{{ end }}
{{- with $values.callers }}{{ if .existingSecret }}
callers: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}]}
{{- end }}{{ end }}
{{- with $values.tls }}{{ if .existingSecret }}
tls: {secret: {{ .existingSecret }}, keys: [{{ .certKey | quote }}, {{ .keyKey | quote }}]}
{{- end }}{{ end }}
{{- with $values.tls.clientCa }}{{ if .existingSecret }}
client-ca: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}]}
{{- end }}{{ end }}
{{- with $values.store.ca }}{{ if .existingSecret }}
store-ca: {secret: {{ .existingSecret }}, keys: [{{ .key | quote }}]}
{{- end }}{{ end }}
{{- end }}

{{- define "hypersender-grpc.volumes" -}}
{{- range $name, $mount := include "hypersender-grpc.secrets" . | fromYaml }}
- name: {{ $name }}
  secret:
    secretName: {{ $mount.secret }}
    # 0440: the group of the process (fsGroup) may read the file. YAML 1.2 has no such octal numbers.
    defaultMode: 288
    {{- with $mount.keys }}
    items:
      {{- range . }}
      - {key: {{ . | quote }}, path: {{ . | quote }}}
      {{- end }}
    {{- end }}
{{- end }}
{{- if .Values.callers.toml }}
- name: callers
  configMap:
    name: {{ include "hypersender-grpc.fullname" . }}-callers
{{- end }}
{{- if .Values.store.file.enabled }}
- name: data
  persistentVolumeClaim:
    claimName: {{ default (include "hypersender-grpc.fullname" .) .Values.store.file.existingClaim }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.volumeMounts" -}}
{{- range $name, $mount := include "hypersender-grpc.secrets" . | fromYaml }}
- name: {{ $name }}
  mountPath: /etc/hypersender-grpc/{{ $name }}
  readOnly: true
{{- end }}
{{- if .Values.callers.toml }}
- name: callers
  mountPath: /etc/hypersender-grpc/callers
  readOnly: true
{{- end }}
{{- if .Values.store.file.enabled }}
- name: data
  mountPath: /var/lib/hypersender-grpc
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.environment" -}}
{{- range $name, $mount := include "hypersender-grpc.secrets" . | fromYaml }}
{{- with $mount.variable }}
- name: {{ . }}
  value: {{ printf "/etc/hypersender-grpc/%s/%s" $name (first $mount.keys) | quote }}
{{- end }}
{{- end }}
{{- with .Values.store.username }}
- name: HYPERSENDER_GRPC_STORE_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if .Values.otlp.endpoint }}
{{ include "hypersender-grpc.otlp" . | trim }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
