{{/* The arguments of the container. Secrets and their files are in variables: see _secrets.tpl. */}}
{{- define "hypersender-grpc.arguments" -}}
{{- $values := .Values -}}
{{- $facts := include "hypersender-grpc.facts" . | fromYaml -}}
{{- $mounts := "/etc/hypersender-grpc" -}}
- serve
- {{ printf "--listen=%s:%d" $values.listenAddress (int $values.ports.grpc) | quote }}
{{- if $values.admin.enabled }}
- {{ printf "--admin-listen=%s:%d" $values.listenAddress (int $values.ports.admin) | quote }}
{{- else }}
- "--admin-listen=off"
{{- end }}
- {{ printf "--drain-wait=%ds" (int $values.drain.waitSeconds) | quote }}
- {{ printf "--drain-timeout=%ds" (int $values.drain.timeoutSeconds) | quote }}
{{- if or $values.callers.toml $values.callers.existingSecret }}
- {{ printf "--callers-file=%s/callers/%s" $mounts $values.callers.key | quote }}
{{- end }}
{{- if $values.instances.existingSecret }}
- {{ printf "--instances-file=%s/instances/%s" $mounts $values.instances.key | quote }}
{{- end }}
{{- if $values.tls.existingSecret }}
- {{ printf "--tls-cert=%s/tls/%s" $mounts $values.tls.certKey | quote }}
- {{ printf "--tls-key=%s/tls/%s" $mounts $values.tls.keyKey | quote }}
{{- end }}
{{- if $values.tls.clientCa.existingSecret }}
- {{ printf "--tls-client-ca=%s/client-ca/%s" $mounts $values.tls.clientCa.key | quote }}
{{- end }}
{{- if $values.store.file.enabled }}
- "--store=file:/var/lib/hypersender-grpc/store"
{{- else if $values.store.url }}
- {{ printf "--store=%s" $values.store.url | quote }}
- {{ printf "--replicas=%d" (int $facts.replicas) | quote }}
{{- end }}
{{- if $values.store.ca.existingSecret }}
- {{ printf "--store-ca=%s/store-ca/%s" $mounts $values.store.ca.key | quote }}
{{- end }}
{{- if $values.avatars.enabled }}
- {{ printf "--avatars-listen=%s:%d" $values.listenAddress (int $values.ports.avatars) | quote }}
{{- with $values.avatars.url }}
- {{ printf "--avatars-url=%s" . | quote }}
{{- end }}
{{- end }}
{{- range $flag, $value := $values.settings }}
- {{ printf "--%s=%s" $flag (include "hypersender-grpc.text" $value) | quote }}
{{- end }}
{{- end }}

{{/* Traces. Variables of the pod come first: Kubernetes replaces $(NAME) only by variables before it. */}}
{{- define "hypersender-grpc.otlp" -}}
{{- $otlp := .Values.otlp -}}
{{- $pod := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "HOST_IP" "status.hostIP" }}
{{- range $name, $path := $pod }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $otlp.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ $otlp.protocol }}
- name: OTEL_SERVICE_NAME
  value: {{ include "hypersender-grpc.fullname" . }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE)
{{- with $otlp.headers.existingSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $otlp.headers.key }}
{{- end }}
{{- end }}
