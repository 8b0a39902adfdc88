"""Signing in and out."""

from typing import Any

from django.contrib.auth import authenticate, user_logged_in
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import permissions, serializers, views
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer
from billing.models import User
from billing.services import sessions


class LoginInput(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=200, trim_whitespace=False)


class RefreshInput(StrictSerializer):
    refresh = serializers.CharField(max_length=2000)


class MembershipOutput(serializers.Serializer):
    id = serializers.UUIDField(source="organisation_id")
    code = serializers.CharField(source="organisation.code")
    name = serializers.CharField(source="organisation.name")
    role = serializers.CharField()


class SessionOutput(serializers.Serializer):
    access = serializers.CharField(help_text="Send as Authorization: Bearer.")
    refresh = serializers.CharField(help_text="Works once; each renewal gives the next one.")
    expires_at = serializers.DateTimeField(help_text="When the access token ends.")
    organisations = MembershipOutput(many=True, source="user.memberships")


EXAMPLE = OpenApiExample("Sign in", value={"email": "clerk@acme.example", "password": "…"}, request_only=True)

TOKEN = OpenApiExample("A refresh token", value={"refresh": "eyJhbGciOi…"}, request_only=True)


class AuthView(views.APIView):
    """Open to all, and limited by address."""

    authentication_classes: Any = ()
    permission_classes: Any = (permissions.AllowAny,)
    throttle_scope = "auth"

    def read(self, request: Request, serializer_class: type[serializers.Serializer]) -> dict[str, Any]:
        serializer = serializer_class(data=request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data


class LoginView(AuthView):
    @extend_schema(
        operation_id="auth_login",
        request=LoginInput,
        responses=SessionOutput,
        examples=[EXAMPLE],
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Sign in with e-mail address and password."""
        given = self.read(request, LoginInput)
        user = authenticate(request._request, username=given["email"].lower(), password=given["password"])  # noqa: SLF001
        if not isinstance(user, User):
            raise sessions.NotSignedIn("The e-mail address or the password is not right.")
        user_logged_in.send(sender=User, request=request._request, user=user)  # noqa: SLF001
        return Response(SessionOutput(sessions.open_session(user)).data)


class RefreshView(AuthView):
    @extend_schema(
        operation_id="auth_refresh",
        request=RefreshInput,
        responses=SessionOutput,
        examples=[TOKEN],
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Trade a refresh token for the next pair of tokens. A second use of one ends its chain."""
        given = self.read(request, RefreshInput)
        return Response(SessionOutput(sessions.renew_session(given["refresh"])).data)


class LogoutView(AuthView):
    @extend_schema(
        operation_id="auth_logout",
        request=RefreshInput,
        responses={204: None},
        examples=[TOKEN],
        tags=["auth"],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Sign out: no token of this sign-in renews any more."""
        sessions.close_session(self.read(request, RefreshInput)["refresh"])
        return Response(status=204)
